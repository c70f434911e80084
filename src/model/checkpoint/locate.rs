//! Where the checkpoint is looked for when the user does not say, and what is said when it is nowhere.
//!
//! In: what the user gave, the environment, the current folder and the program's own place. Out: a path that exists.

use std::path::{Path, PathBuf};

use super::Checkpoint;
use crate::{Error, Result};

/// The shipped checkpoint's file name.
const SHIPPED: &str = "m2snet-polyp.safetensors";

/// Environment variable that names a checkpoint.
const VARIABLE: &str = "POLYPSCOPE_WEIGHTS";

/// Folders above the program in which a `weights` folder is looked for: from `target/release/deps` up to the
/// repository's root.
const PARENTS: usize = 4;

impl Checkpoint {
    /// The checkpoint to use: `explicit` (`--weights`), else what `POLYPSCOPE_WEIGHTS` names, else the shipped one, in
    /// `weights/` of the current folder, beside the program or in a `weights` folder there or up to the repository's
    /// root, or in `../share/polypscope`.
    ///
    /// # Errors
    /// [`crate::Kind::Input`]: what was named is not there, or every place that was looked at.
    pub fn locate(explicit: Option<&Path>) -> Result<PathBuf> {
        let variable = std::env::var_os(VARIABLE).filter(|v| !v.is_empty()).map(PathBuf::from);
        let program = std::env::current_exe().ok();
        locate(explicit, variable.as_deref(), &places(program.as_deref(), Path::new("")), "--weights")
    }

    /// The same for a library that some program has loaded: the shipped one lies where it was installed with the
    /// library, in `polypscope` or `share/polypscope` of a folder above; `property` is what the user sets instead of
    /// `--weights`.
    ///
    /// # Errors
    /// As [`Checkpoint::locate`].
    pub fn locate_beside(explicit: Option<&Path>, library: Option<&Path>, property: &str) -> Result<PathBuf> {
        let variable = std::env::var_os(VARIABLE).filter(|v| !v.is_empty()).map(PathBuf::from);
        let program = std::env::current_exe().ok();
        let mut all = library.map(places_of_library).unwrap_or_default();
        all.extend(places(program.as_deref(), Path::new("")));
        locate(explicit, variable.as_deref(), &all, property)
    }
}

/// `asked`: what a user gives a checkpoint with.
fn locate(
    explicit: Option<&Path>,
    variable: Option<&Path>,
    places: &[PathBuf],
    asked: &str,
) -> Result<PathBuf> {
    if let Some(path) = explicit {
        return match path.exists() {
            true => Ok(path.to_owned()),
            false => Err(Error::input(format!("{}: there is no such checkpoint", path.display()))
                .remedy(format!("check the path given to {asked}"))),
        };
    }
    if let Some(path) = variable {
        return match path.exists() {
            true => Ok(path.to_owned()),
            false => Err(Error::input(format!(
                "{}: there is no such checkpoint, though {VARIABLE} names it",
                path.display()
            ))
            .remedy(format!("correct or unset {VARIABLE}"))),
        };
    }
    if let Some(found) = places.iter().find(|p| p.is_file()) {
        return Ok(found.clone());
    }
    let list: Vec<String> = places.iter().map(|p| p.display().to_string()).collect();
    Err(Error::input(format!("no checkpoint was found (looked at {})", list.join(", ")))
        .remedy(format!("give one with {asked} FILE or {VARIABLE}")))
}

/// Every place of the shipped checkpoint, in order.
fn places(program: Option<&Path>, folder: &Path) -> Vec<PathBuf> {
    let mut places = vec![folder.join("weights").join(SHIPPED)];
    if let Some(beside) = program.and_then(Path::parent) {
        places.push(beside.join(SHIPPED));
        places.extend(beside.ancestors().take(PARENTS).map(|p| p.join("weights").join(SHIPPED)));
        if let Some(prefix) = beside.parent() {
            places.push(prefix.join("share").join("polypscope").join(SHIPPED));
        }
    }
    places
}

/// Where `make install-plugin` puts the checkpoint, seen from the library.
fn places_of_library(library: &Path) -> Vec<PathBuf> {
    let above = library.ancestors().skip(1).take(PARENTS + 1);
    above
        .flat_map(|folder| [folder.join("polypscope"), folder.join("share").join("polypscope")])
        .map(|folder| folder.join(SHIPPED))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_where_it_says_in_that_order() {
        let root = tempfile::tempdir().unwrap();
        let at = |p: &str| {
            let p = root.path().join(p);
            std::fs::create_dir_all(p.parent().unwrap()).unwrap();
            std::fs::write(&p, b"x").unwrap();
            p
        };
        let program = at("repo/target/release/polypscope");
        let folder = root.path().join("elsewhere");
        let find = |explicit: Option<&Path>, variable: Option<&Path>| {
            locate(explicit, variable, &places(Some(&program), &folder), "--weights")
        };

        let e = find(None, None).unwrap_err().to_string();
        for place in [
            "elsewhere/weights/m2snet-polyp.safetensors",
            "repo/target/release/m2snet-polyp.safetensors",
            "repo/weights/m2snet-polyp.safetensors",
            "repo/target/share/polypscope/m2snet-polyp.safetensors",
            "--weights FILE or POLYPSCOPE_WEIGHTS",
        ] {
            assert!(e.contains(place), "{e}");
        }

        // From the last place to the first, each hides the one before.
        for place in [
            "repo/target/share/polypscope/m2snet-polyp.safetensors",
            "repo/weights/m2snet-polyp.safetensors",
            "repo/target/release/weights/m2snet-polyp.safetensors",
            "repo/target/release/m2snet-polyp.safetensors",
            "elsewhere/weights/m2snet-polyp.safetensors",
        ] {
            let p = at(place);
            assert_eq!(find(None, None).unwrap(), p);
        }
        let (variable, explicit) = (at("variable.safetensors"), at("explicit.safetensors"));
        assert_eq!(find(None, Some(&variable)).unwrap(), variable);
        assert_eq!(find(Some(&explicit), Some(&variable)).unwrap(), explicit);

        let nowhere = root.path().join("nowhere");
        let e = find(None, Some(&nowhere)).unwrap_err().to_string();
        assert!(e.contains("nowhere") && e.contains("POLYPSCOPE_WEIGHTS"), "{e}");
        let e = find(Some(&nowhere), None).unwrap_err().to_string();
        assert!(e.contains("nowhere") && e.contains("--weights"), "{e}");
    }
    #[test]
    fn a_library_finds_what_was_installed_with_it() {
        let root = tempfile::tempdir().unwrap();
        for (library, shipped) in [
            ("usr/lib/x86_64-linux-gnu/gstreamer-1.0/libgstx.so", "usr/share/polypscope"),
            ("home/.local/share/gstreamer-1.0/plugins/libgstx.so", "home/.local/share/polypscope"),
        ] {
            let shipped = root.path().join(shipped).join(SHIPPED);
            std::fs::create_dir_all(shipped.parent().unwrap()).unwrap();
            std::fs::write(&shipped, b"x").unwrap();
            let places = places_of_library(&root.path().join(library));
            assert_eq!(locate(None, None, &places, "weights").unwrap(), shipped);
        }
        let e =
            locate(Some(Path::new("/nowhere")), None, &[], "the property weights").unwrap_err().to_string();
        assert!(e.contains("check the path given to the property weights"), "{e}");
    }
}
