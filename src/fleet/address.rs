//! Addresses of folders and buckets, and what went wrong there.
//!
//! In: text, errors of the object store. Out: what the text names; sentences.

use std::path::Path as FilePath;

use crate::{Error, Result};

/// What an address names.
pub(super) enum Address<'a> {
    Folder(&'a FilePath),
    Bucket { bucket: &'a str, key: &'a str },
}

impl<'a> Address<'a> {
    pub(super) fn of(text: &'a str) -> Result<Self> {
        if let Some(rest) = text.strip_prefix("s3://") {
            let (bucket, key) = rest.split_once('/').unwrap_or((rest, ""));
            if bucket.is_empty() {
                return Err(wrong_address(text, "it names no bucket"));
            }
            return Ok(Self::Bucket { bucket, key: key.trim_end_matches('/') });
        }
        if text.contains("://") {
            return Err(wrong_address(text, "only s3:// is known"));
        }
        Ok(Self::Folder(FilePath::new(text)))
    }
}

pub(super) fn wrong_address(address: &str, why: &str) -> Error {
    Error::usage(format!("{address}: cannot be used as an address ({why})"))
        .remedy("give a folder or s3://BUCKET/PREFIX")
}

/// What kept the store from doing something, with the cause that the file system gave where there is one.
pub(super) fn failure(address: &str, done: &str, e: &object_store::Error) -> Error {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(e);
    while let Some(c) = cause {
        if let Some(io) = c.downcast_ref::<std::io::Error>() {
            let copy = io.raw_os_error().map_or_else(
                || std::io::Error::new(io.kind(), io.to_string()),
                std::io::Error::from_raw_os_error,
            );
            return match done {
                "written" => Error::write(FilePath::new(address), copy),
                _ => Error::read(FilePath::new(address), copy),
            };
        }
        cause = c.source();
    }
    let text = e.to_string().split_whitespace().collect::<Vec<_>>().join(" ");
    Error::output(format!("{address}: the store cannot be {done} ({text})"))
        .remedy("check the address, the credentials and the network")
}
