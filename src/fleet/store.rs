//! Where results are kept: a folder, a network file system or a bucket, through one set of calls.
//!
//! In: names and bytes. Out: objects that are whole or not there, each created once and never changed. Calls wait;
//! several reads are under way at a time where that helps.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

use super::address::{Address, failure, wrong_address};
use super::bucket;
use crate::{Error, Result};

/// What lies aside for so long was left by a worker that was killed: nobody writes one object for hours.
const LEFT: Duration = Duration::from_secs(6 * 3600);

/// Reads under way at once: what hides a bucket's latency, and is no burden for a file system.
const AT_ONCE: usize = 32;

/// What became of an object that was to be created.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Created {
    /// It was not there, and is now.
    New,
    /// Somebody else was first, and theirs stands.
    ThereAlready,
}

/// An object's name and when it came into being.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Listed {
    pub name: String,
    pub at: SystemTime,
    pub bytes: u64,
}

/// See the module.
pub struct Store {
    objects: Arc<dyn ObjectStore>,
    prefix: Path,
    runtime: Runtime,
    /// Where it is a folder.
    folder: Option<PathBuf>,
    /// For sentences.
    address: String,
}

impl Store {
    /// Opens `DIR` or `s3://BUCKET/PREFIX`. A folder that is not there is made, for its owner alone.
    ///
    /// # Errors
    /// A folder that cannot be made, a bucket this build or this environment cannot speak to.
    pub fn open(address: &str) -> Result<Self> {
        match Address::of(address)? {
            Address::Folder(path) => {
                crate::result_file::make_folder(path)?;
                let files = LocalFileSystem::new_with_prefix(path)
                    .map_err(|e| failure(address, "opened", &e))?
                    // A result that stands must still stand after the power failed.
                    .with_fsync(true);
                Ok(Self {
                    folder: Some(path.to_owned()),
                    ..Self::with(Arc::new(files), Path::default(), address)?
                })
            }
            Address::Bucket { bucket, key } => {
                let prefix = Path::parse(key).map_err(|e| wrong_address(address, &e.to_string()))?;
                Self::with(bucket::open(bucket, address)?, prefix, address)
            }
        }
    }

    fn with(objects: Arc<dyn ObjectStore>, prefix: Path, address: &str) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|e| Error::machine("the store's thread cannot be started").because(e))?;
        Ok(Self { objects, prefix, runtime, folder: None, address: address.to_owned() })
    }

    /// What it was opened as.
    pub fn address(&self) -> &str {
        &self.address
    }

    fn path(&self, name: &str) -> Path {
        self.prefix.parts().chain(Path::from(name).parts()).collect()
    }

    /// Creates an object, unless there is one of this name. One write: the object is whole or not there.
    ///
    /// # Errors
    /// A full disk, a store that does not answer.
    pub(super) fn create(&self, name: &str, bytes: Vec<u8>) -> Result<Created> {
        let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        let path = self.path(name);
        let put = self.objects.put_opts(&path, PutPayload::from(bytes), options);
        match self.runtime.block_on(put) {
            Ok(_) => Ok(Created::New),
            Err(object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. }) => {
                Ok(Created::ThereAlready)
            }
            Err(e) => Err(failure(&self.address, "written", &e)),
        }
    }

    /// Removes what killed workers have left of objects under a folder of the store (`NAME#1`); a bucket keeps nothing
    /// of that kind.
    pub(super) fn sweep(&self, name: &str) {
        let Some(folder) = self.folder.as_ref().map(|f| f.join(name)) else { return };
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let aside = entry.file_name().to_str().is_some_and(|n| {
                n.rsplit_once('#')
                    .is_some_and(|(_, n)| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
            });
            let age = entry.metadata().ok().and_then(|m| m.modified().ok()?.elapsed().ok());
            if aside
                && age.is_some_and(|age| age > LEFT)
                && let Err(e) = std::fs::remove_file(entry.path())
            {
                tracing::debug!(error = %e, "left by a killed worker, and cannot be removed");
            }
        }
    }

    /// An object's bytes; none where it is not there.
    ///
    /// # Errors
    /// A store that does not answer.
    pub(super) fn read(&self, name: &str) -> Result<Option<Vec<u8>>> {
        let path = self.path(name);
        let read = async { self.objects.get(&path).await?.bytes().await };
        match self.runtime.block_on(read) {
            Ok(bytes) => Ok(Some(bytes.to_vec())),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(e) => Err(failure(&self.address, "read", &e)),
        }
    }

    /// The bytes of several objects, in the order of the names.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub(super) fn read_all(&self, names: &[String]) -> Result<Vec<Option<Vec<u8>>>> {
        let mut found = vec![None; names.len()];
        self.runtime.block_on(async {
            let mut running = JoinSet::new();
            let mut next = 0;
            while next < names.len() || !running.is_empty() {
                while next < names.len() && running.len() < AT_ONCE {
                    let (objects, path, at) = (self.objects.clone(), self.path(&names[next]), next);
                    running.spawn(async move { (at, read_whole(&*objects, &path).await) });
                    next += 1;
                }
                match running.join_next().await {
                    Some(Ok((at, Ok(bytes)))) => found[at] = Some(bytes),
                    Some(Ok((_, Err(object_store::Error::NotFound { .. })))) | None => {}
                    Some(Ok((_, Err(e)))) => return Err(failure(&self.address, "read", &e)),
                    Some(Err(e)) => return Err(Error::internal("a read of the store panicked").because(e)),
                }
            }
            Ok(())
        })?;
        Ok(found)
    }

    /// Whether an object is there.
    ///
    /// # Errors
    /// A store that does not answer.
    pub(super) fn has(&self, name: &str) -> Result<bool> {
        match self.runtime.block_on(self.objects.head(&self.path(name))) {
            Ok(_) => Ok(true),
            Err(object_store::Error::NotFound { .. }) => Ok(false),
            Err(e) => Err(failure(&self.address, "read", &e)),
        }
    }

    /// Everything under `folder`, by name; names are relative to the store.
    ///
    /// # Errors
    /// A store that does not answer.
    pub(super) fn list(&self, folder: &str) -> Result<Vec<Listed>> {
        use object_store::ListResult;
        let skip = self.prefix.parts().count();
        let prefix = self.path(folder);
        let list = async {
            let mut all = Vec::new();
            // Folders below are walked here: the call for a whole tree gives a stream, which would need one more crate.
            let mut open = vec![prefix];
            while let Some(folder) = open.pop() {
                let ListResult { common_prefixes, objects, .. } =
                    self.objects.list_with_delimiter(Some(&folder)).await?;
                open.extend(common_prefixes);
                all.extend(objects);
            }
            Ok(all)
        };
        let objects = self.runtime.block_on(list).map_err(|e| failure(&self.address, "listed", &e))?;
        let mut listed: Vec<_> = objects
            .into_iter()
            .map(|o| Listed {
                name: o.location.parts().skip(skip).collect::<Path>().to_string(),
                at: o.last_modified.into(),
                bytes: o.size,
            })
            .collect();
        listed.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(listed)
    }
}

async fn read_whole(objects: &dyn ObjectStore, path: &Path) -> object_store::Result<Vec<u8>> {
    Ok(objects.get(path).await?.bytes().await?.to_vec())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(crate) fn folder() -> (tempfile::TempDir, Store) {
        let t = tempfile::tempdir().unwrap();
        let store = Store::open(t.path().join("store").to_str().unwrap()).unwrap();
        (t, store)
    }

    #[test]
    fn an_object_is_created_once_and_by_one_of_many() {
        let (t, store) = folder();
        assert_eq!(store.create("done/a.json", b"1".to_vec()).unwrap(), Created::New);
        assert_eq!(store.create("done/a.json", b"2".to_vec()).unwrap(), Created::ThereAlready);
        assert_eq!(store.read("done/a.json").unwrap().unwrap(), b"1");
        assert_eq!(store.read("done/b.json").unwrap(), None);
        assert!(store.has("done/a.json").unwrap() && !store.has("done/b.json").unwrap());
        let address = t.path().join("store");
        let mut created = Vec::new();
        std::thread::scope(|s| {
            // All are started before the first is waited for.
            let racers = [0u8, 1, 2, 3, 4, 5, 6, 7].map(|n| {
                let address = address.to_str().unwrap();
                s.spawn(move || Store::open(address).unwrap().create("x/y", vec![n; 1000]).unwrap())
            });
            created.extend(racers.map(|r| r.join().unwrap()));
        });
        assert_eq!(created.iter().filter(|c| **c == Created::New).count(), 1);
        let bytes = store.read("x/y").unwrap().unwrap();
        assert!(bytes.len() == 1000 && bytes.iter().all(|b| *b == bytes[0]));
        let names: Vec<_> = store.list("").unwrap().into_iter().map(|l| l.name).collect();
        assert_eq!(names, ["done/a.json", "x/y"], "nothing is left aside");
        let many: Vec<_> =
            (0..100).map(|i| if i % 2 == 0 { "x/y".into() } else { format!("no/{i}") }).collect();
        let read = store.read_all(&many).unwrap();
        assert!(read.iter().enumerate().all(|(i, r)| r.is_some() == (i % 2 == 0)));
    }

    #[test]
    fn what_killed_workers_left_goes_after_some_hours() {
        let (t, store) = folder();
        store.create("segments/k/1-00000.gz", b"1".to_vec()).unwrap();
        let folder = t.path().join("store/segments/k");
        for name in ["1-00001.gz#1", "1-00001.gz#2", "a#b"] {
            std::fs::write(folder.join(name), "x").unwrap();
        }
        let old = SystemTime::now() - 2 * LEFT;
        for name in ["1-00000.gz", "1-00001.gz#1", "a#b"] {
            std::fs::File::options().write(true).open(folder.join(name)).unwrap().set_modified(old).unwrap();
        }
        store.sweep("segments/k");
        let mut left: Vec<_> = std::fs::read_dir(&folder)
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        left.sort();
        assert_eq!(left, ["1-00000.gz", "1-00001.gz#2", "a#b"]);
    }

    #[test]
    fn addresses_that_are_none_are_said() {
        for wrong in ["gs://a/b", "s3://", "s3:///a"] {
            let Err(e) = Store::open(wrong) else { panic!("{wrong}") };
            assert_eq!(e.exit_code(), 2, "{e}");
        }
        #[cfg(not(feature = "s3"))]
        assert!(Store::open("s3://a/b").err().unwrap().to_string().contains("--features s3"));
        let t = tempfile::tempdir().unwrap();
        std::fs::write(t.path().join("file"), "x").unwrap();
        let e = Store::open(t.path().join("file/store").to_str().unwrap()).err().unwrap();
        assert!(e.to_string().contains("cannot be written (not a directory)"), "{e}");
    }
}
