//! `polypscope completions` and `polypscope man`: what a package installs beside the program.
//!
//! In: the command line's own description. Out: a shell's completions on standard output, manual pages in a folder.

use std::path::{Path, PathBuf};

use clap::{Args as ClapArgs, CommandFactory};

use super::{Cli, Context, Outcome};
use crate::result_file::write_whole;
use crate::{Error, Result};

/// Prints what a shell needs to complete the program's arguments.
#[derive(Debug, ClapArgs)]
pub struct CompletionsArgs {
    /// Which shell
    pub shell: clap_complete::Shell,
}

/// Writes the manual pages: one of the program, and one of each command.
#[derive(Debug, ClapArgs)]
pub struct ManArgs {
    /// Folder for the pages; it is made if it is missing
    pub folder: PathBuf,
    /// Replace pages that are there
    #[arg(long)]
    pub force: bool,
}

pub fn completions(args: &CompletionsArgs, context: &mut Context) -> Result<Outcome> {
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "polypscope", &mut text);
    context.exactly(String::from_utf8_lossy(&text).trim_end())?;
    Ok(Outcome::Done)
}

pub fn man(args: &ManArgs, context: &mut Context) -> Result<Outcome> {
    std::fs::create_dir_all(&args.folder).map_err(|e| Error::write(&args.folder, e))?;
    let mut command = Cli::command().disable_help_subcommand(true);
    command.build();
    let pages = write(&command, &args.folder, args.force)?;
    if context.json {
        context.json(&serde_json::json!({ "folder": args.folder, "pages": pages }))?;
    } else {
        context.remark(format_args!("{pages} pages in {}", args.folder.display()))?;
    }
    Ok(Outcome::Done)
}

fn write(command: &clap::Command, folder: &Path, force: bool) -> Result<usize> {
    // In this release's own words, so that the same program writes the same page on every day.
    let page = clap_mangen::Man::new(command.clone()).manual("Polypscope").date("");
    let path = folder.join(page.get_filename());
    let mut text = Vec::new();
    page.render(&mut text).map_err(|e| Error::write(&path, e))?;
    write_whole(&path, &text, force)?;
    let below = command.get_subcommands().filter(|c| !c.is_hide_set());
    Ok(1 + below.map(|c| write(c, folder, force)).sum::<Result<usize>>()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn context(out: &mut Vec<u8>) -> Context<'_> {
        Context { out, quiet: false, json: false, verbose: 0 }
    }

    #[test]
    fn every_command_has_a_page_that_names_its_options() {
        let folder = tempfile::tempdir().unwrap();
        let mut out = Vec::new();
        let args = ManArgs { folder: folder.path().join("man"), force: false };
        man(&args, &mut context(&mut out)).unwrap();
        let read = |name: &str| std::fs::read_to_string(args.folder.join(name)).unwrap();
        for command in Cli::command().get_subcommands() {
            let page = read(&format!("polypscope-{}.1", command.get_name()));
            for option in command.get_arguments().filter(|a| !a.is_hide_set()) {
                if let Some(long) = option.get_long() {
                    assert!(page.contains(&long.replace('-', "\\-")), "{}: --{long}", command.get_name());
                }
            }
        }
        assert!(read("polypscope.1").contains("not a medical device"));
        assert!(read("polypscope-weights-inspect.1").contains("polypscope weights inspect"));
        // What is there stays, unless it is to be replaced.
        assert!(man(&args, &mut context(&mut Vec::new())).is_err());
        man(&ManArgs { force: true, ..args }, &mut context(&mut Vec::new())).unwrap();
        assert!(String::from_utf8(out).unwrap().contains("pages in"));
    }

    #[test]
    fn completions_name_every_command() {
        use clap::ValueEnum;
        for shell in clap_complete::Shell::value_variants() {
            let mut out = Vec::new();
            completions(&CompletionsArgs { shell: *shell }, &mut context(&mut out)).unwrap();
            let text = String::from_utf8(out).unwrap();
            for command in Cli::command().get_subcommands() {
                assert!(text.contains(command.get_name()), "{shell}: {}", command.get_name());
            }
        }
    }
}
