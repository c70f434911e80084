//! Buckets, where this program was built with them (feature `s3`).
//!
//! In: a bucket's name, and what the environment says of its server and credentials. Out: a store of objects, names,
//! copies of objects. Without the feature: the sentence that says so.

#[cfg(feature = "s3")]
pub(super) use with::{copy, list, open};
#[cfg(not(feature = "s3"))]
pub(super) use without::{copy, list, open};

#[cfg(not(feature = "s3"))]
mod without {
    use std::path::{Path, PathBuf};
    use std::sync::Arc;

    use object_store::ObjectStore;
    use tempfile::TempDir;

    use crate::{Error, Result};

    fn refused(address: &str) -> Error {
        Error::usage(format!("{address}: this program was built without buckets"))
            .remedy("build it with `--features s3`")
    }

    pub(in super::super) fn open(_: &str, address: &str) -> Result<Arc<dyn ObjectStore>> {
        Err(refused(address))
    }

    pub(in super::super) fn copy(
        address: &str,
        _: (&str, &str),
        _: &Path,
        _: u64,
    ) -> Result<(PathBuf, TempDir)> {
        Err(refused(address))
    }

    pub(in super::super) fn list(address: &str, _: &str, _: &str) -> Result<Vec<String>> {
        Err(refused(address))
    }
}

#[cfg(feature = "s3")]
mod with {
    use std::io::Write;
    use std::path::{Path, PathBuf};
    use std::sync::Arc;

    use futures_util::StreamExt;
    use object_store::aws::AmazonS3Builder;
    use object_store::{ObjectStore, ObjectStoreExt};
    use tempfile::TempDir;

    use crate::fleet::address::failure;
    use crate::{Error, Result};

    /// A bucket, with what the environment says (`AWS_ACCESS_KEY_ID`, `AWS_REGION`, `AWS_ENDPOINT_URL`, …).
    pub(in super::super) fn open(bucket: &str, address: &str) -> Result<Arc<dyn ObjectStore>> {
        // Only where somebody wrote it so: a server on the same machine.
        let plain = std::env::var("AWS_ENDPOINT_URL").is_ok_and(|u| u.starts_with("http://"));
        let built = AmazonS3Builder::from_env().with_bucket_name(bucket).with_allow_http(plain).build();
        Ok(Arc::new(built.map_err(|e| failure(address, "opened", &e))?))
    }

    fn wait<T>(work: impl Future<Output = T>) -> Result<T> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|e| Error::machine("the bucket's thread cannot be started").because(e))?;
        Ok(runtime.block_on(work))
    }

    pub(in super::super) fn list(address: &str, bucket: &str, key: &str) -> Result<Vec<String>> {
        let objects = open(bucket, address)?;
        let prefix = object_store::path::Path::from(key);
        let found: object_store::Result<Vec<_>> = wait(async {
            // One that is named itself.
            if !key.is_empty()
                && let Ok(one) = objects.head(&prefix).await
            {
                return Ok(vec![one.location]);
            }
            let mut all = Vec::new();
            let mut stream = objects.list(Some(&prefix));
            while let Some(object) = stream.next().await {
                all.push(object?.location);
            }
            Ok(all)
        })?;
        let found = found.map_err(|e| failure(address, "listed", &e))?;
        let mut found: Vec<_> = found.into_iter().map(|o| format!("s3://{bucket}/{o}")).collect();
        found.sort();
        Ok(found)
    }

    /// Copies an object of at most so many bytes into a folder of its own within `folder`.
    pub(in super::super) fn copy(
        address: &str,
        (bucket, key): (&str, &str),
        folder: &Path,
        most_bytes: u64,
    ) -> Result<(PathBuf, TempDir)> {
        let failed = |e: std::io::Error| Error::write(folder, e);
        std::fs::create_dir_all(folder).map_err(failed)?;
        let own = tempfile::Builder::new().prefix("polypscope-").tempdir_in(folder).map_err(failed)?;
        // Some readers go by the ending.
        let end = key.rsplit('.').next().filter(|e| e.len() < 6 && !e.contains('/')).unwrap_or("video");
        let path = own.path().join(format!("recording.{end}"));
        let objects = open(bucket, address)?;
        wait(async {
            let object = objects
                .get(&object_store::path::Path::from(key))
                .await
                .map_err(|e| Error::machine(failure(address, "read", &e).to_string()).because(e))?;
            if object.meta.size > most_bytes {
                return Err(Error::machine(format!(
                    "{address}: has {} bytes, and copies may have {most_bytes}",
                    object.meta.size
                ))
                .remedy("raise --scratch-gib, or name a larger disk with --scratch"));
            }
            let mut file = std::fs::File::create(&path).map_err(failed)?;
            let mut stream = object.into_stream();
            while let Some(piece) = stream.next().await {
                let piece =
                    piece.map_err(|e| Error::machine(failure(address, "read", &e).to_string()).because(e))?;
                file.write_all(&piece).map_err(failed)?;
            }
            Ok(())
        })??;
        Ok((path, own))
    }
}
