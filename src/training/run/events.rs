//! TensorBoard's event files: figures by name and step flow in, records flow out.
//!
//! A record is a length, the length's checksum, a protobuf message `Event`, its checksum; checksums are CRC-32C,
//! rotated and shifted (TFRecord). Of the message only the time, the step and scalar summaries are written.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::{Error, Result};

/// CRC-32C (Castagnoli), bit by bit: some hundred bytes a step.
fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0u32, |crc, &b| {
        (0..8).fold(crc ^ u32::from(b), |crc, _| (crc >> 1) ^ if crc & 1 == 1 { 0x82F6_3B78 } else { 0 })
    })
}

fn masked(bytes: &[u8]) -> u32 {
    crc32c(bytes).rotate_right(15).wrapping_add(0xA282_EAD8)
}

fn record(message: &[u8]) -> Vec<u8> {
    let length = (message.len() as u64).to_le_bytes();
    let mut out = length.to_vec();
    out.extend(masked(&length).to_le_bytes());
    out.extend(message);
    out.extend(masked(message).to_le_bytes());
    out
}

fn varint(mut v: u64, out: &mut Vec<u8>) {
    while v >= 128 {
        out.push(v as u8 | 128);
        v >>= 7;
    }
    out.push(v as u8);
}

/// A field of bytes.
fn bytes(field: u64, value: &[u8], out: &mut Vec<u8>) {
    varint(field << 3 | 2, out);
    varint(value.len() as u64, out);
    out.extend(value);
}

/// `Event { wall_time = 1, step = 2, file_version = 3, summary = 5 }`.
fn event(seconds: f64, step: u64, version: Option<&str>, scalars: &[(&str, f64)]) -> Vec<u8> {
    let mut out = vec![1 << 3 | 1];
    out.extend(seconds.to_le_bytes());
    varint(2 << 3, &mut out);
    varint(step, &mut out);
    if let Some(version) = version {
        bytes(3, version.as_bytes(), &mut out);
    }
    if !scalars.is_empty() {
        let mut summary = Vec::new();
        for (tag, value) in scalars {
            // `Value { tag = 1, simple_value = 2 }`.
            let mut one = Vec::new();
            bytes(1, tag.as_bytes(), &mut one);
            one.push(2 << 3 | 5);
            one.extend((*value as f32).to_le_bytes());
            bytes(1, &one, &mut summary);
        }
        bytes(5, &summary, &mut out);
    }
    out
}

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |d| d.as_secs_f64())
}

/// An event file, appended to.
pub struct Events {
    path: PathBuf,
    file: File,
}

impl Events {
    /// Begins a file of its own; TensorBoard reads all files of a folder together.
    ///
    /// # Errors
    /// The file system's.
    pub fn create(folder: &Path) -> Result<Self> {
        let path = folder.join(format!("events.out.tfevents.{:.0}.polypscope.{}", now(), std::process::id()));
        let file =
            OpenOptions::new().create(true).append(true).open(&path).map_err(|e| Error::write(&path, e))?;
        let mut out = Self { path, file };
        out.write(&event(now(), 0, Some("brain.Event:2"), &[]))?;
        Ok(out)
    }

    fn write(&mut self, message: &[u8]) -> Result<()> {
        self.file.write_all(&record(message)).map_err(|e| Error::write(&self.path, e))
    }

    /// # Errors
    /// A full disk.
    pub fn scalars(&mut self, step: u64, scalars: &[(&str, f64)]) -> Result<()> {
        self.write(&event(now(), step, None, scalars))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_have_the_checksums_of_the_format() {
        // RFC 3720, B.4.
        assert_eq!(crc32c(&[0; 32]), 0x8A91_36AA);
        assert_eq!(crc32c(b"123456789"), 0xE306_9283);
        // The first record TensorFlow itself writes at time 0.
        let first = record(&event(0.0, 0, Some("brain.Event:2"), &[]));
        assert_eq!(first.len(), 8 + 4 + (9 + 2 + 15) + 4);
        let one = event(1.0, 300, None, &[("loss", 0.5)]);
        assert_eq!(&one[9..12], [0x10, 0xAC, 0x02]);
        assert_eq!(&one[12..], [0x2A, 13, 0x0A, 11, 0x0A, 4, b'l', b'o', b's', b's', 0x15, 0, 0, 0, 0x3F]);
    }
}
