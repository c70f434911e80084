//! Per-frame masks as pictures.
//!
//! In: masks. Out: a folder of 8-bit PNG files, `000000.png` on, 0 outside and 255 inside, at the source's size. The
//! folder is written aside and takes its name when it is complete.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use image::codecs::png::{CompressionType, FilterType, PngEncoder};
use image::{ExtendedColorType, ImageEncoder};

use crate::frame::Mask;
use crate::result_file::{Aside, not_named};
use crate::{Error, Result};

/// A folder of masks being written; dropped unfinished, it leaves nothing behind.
pub(super) struct MaskFolder {
    target: PathBuf,
    aside: Aside,
    force: bool,
    pixels: Vec<u8>,
    png: Vec<u8>,
}

impl MaskFolder {
    /// Prepares to write `target`.
    ///
    /// # Errors
    /// A folder that is there already and not to be replaced, or that cannot be created.
    pub(super) fn create(target: &Path, force: bool) -> Result<Self> {
        if target.symlink_metadata().is_ok() && !force {
            return Err(Error::output(format!("{}: exists already", target.display()))
                .remedy("choose another --report folder, or add --force to replace it"));
        }
        let parent = target.parent().unwrap_or(Path::new("."));
        std::fs::create_dir_all(parent).map_err(|e| Error::write(parent, e))?;
        let aside = Aside::folder(parent).map_err(|e| Error::write(target, e))?;
        Ok(Self { target: target.to_owned(), aside, force, pixels: Vec::new(), png: Vec::new() })
    }

    pub(super) fn write(&mut self, mask: &Mask) -> Result<()> {
        let name = format!("{:06}.png", mask.frame.0);
        let shown = self.target.join(&name);
        self.pixels.clear();
        self.pixels.resize(mask.width as usize * mask.height as usize, 0);
        let view = mask.field_of_view;
        for y in 0..view.h {
            let start = (view.y + y) as usize * mask.width as usize + view.x as usize;
            for (o, &inside) in self.pixels[start..start + view.w as usize].iter_mut().zip(mask.row(y)) {
                *o = if inside != 0 { 255 } else { 0 };
            }
        }
        self.png.clear();
        PngEncoder::new_with_quality(&mut self.png, CompressionType::Fast, FilterType::NoFilter)
            .write_image(&self.pixels, mask.width, mask.height, ExtendedColorType::L8)
            .map_err(|e| Error::internal(format!("{}: cannot be encoded", shown.display())).because(e))?;
        // Written in one piece: a buffered writer would swallow what a full disk says when it is dropped.
        File::options()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(self.aside.path().join(&name))
            .and_then(|mut f| f.write_all(&self.png))
            .map_err(|e| Error::write(&shown, e))
    }

    /// Gives the folder its name, replacing an earlier one only now.
    pub(super) fn finish(self) -> Result<()> {
        let failed = |e| Error::write(&self.target, e);
        if self.force && self.target.symlink_metadata().is_ok() {
            let is_ours = std::fs::read_dir(&self.target).map_err(failed)?.flatten().all(|f| {
                let name = f.file_name();
                let name = name.to_string_lossy();
                name.strip_suffix(".png").is_some_and(|n| n.bytes().all(|b| b.is_ascii_digit()))
            });
            if !is_ours {
                return Err(Error::output(format!(
                    "{}: holds other files than masks",
                    self.target.display()
                ))
                .remedy("choose another --report folder"));
            }
        }
        self.aside.publish(&self.target, self.force).map_err(|e| not_named(&self.target, e))
    }
}
