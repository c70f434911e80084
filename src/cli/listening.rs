//! Where a live session listens: its control page and Prometheus' figures.
//!
//! In: addresses, tokens and origins from the command line. Out: running listeners, and the page's address with the
//! token in it for whoever started the session.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args as ClapArgs;

use super::Context;
use crate::capture::RecorderSettings;
use crate::control::{Access, Control, Origin, Routes, Token};
use crate::live::Session;
use crate::{Error, Result};

#[derive(Debug, ClapArgs)]
pub(super) struct ListenArgs {
    /// Steer and watch the session over HTTP at this address, such as 127.0.0.1:7700. The page's address is printed
    /// with a token made for this session, without which neither picture nor state is given
    #[arg(long, value_name = "ADDR")]
    control: Option<SocketAddr>,
    /// File with a token of your own; without it one is made at every start
    #[arg(long, value_name = "FILE", requires = "control")]
    control_token_file: Option<PathBuf>,
    /// Ask for no token: every user and every program of this machine sees the patient and can steer the session; on
    /// loopback only
    #[arg(long, requires = "control", conflicts_with = "control_token_file")]
    control_open: bool,
    /// Origin of the page where a proxy publishes it, such as https://suite3:18443; may be given several times
    #[arg(long, value_name = "URL", requires = "control")]
    control_origin: Vec<Origin>,
    /// Write the page's address, with its token, to this file for its owner alone; removed at the end
    #[arg(long, value_name = "FILE", requires = "control")]
    control_url_file: Option<PathBuf>,
    /// Prometheus figures at this address, for everybody who can reach it: they show nothing of the patient
    #[arg(long, value_name = "ADDR")]
    metrics: Option<SocketAddr>,
    /// File with a token that scrapers must bring (Authorization: Bearer …)
    #[arg(long, value_name = "FILE", requires = "metrics")]
    metrics_token_file: Option<PathBuf>,
}

/// What was asked for, looked at before anything starts.
pub(super) struct Plan<'a> {
    args: &'a ListenArgs,
    control: Option<(SocketAddr, Access)>,
    metrics: Option<(SocketAddr, Access)>,
}

/// The listeners of a session; they end when dropped.
pub(super) struct Listening {
    _listeners: Vec<Control>,
    _url: Option<UrlFile>,
}

impl ListenArgs {
    /// Files that are read: no output may be one of them.
    pub(super) fn reads(&self) -> impl Iterator<Item = &PathBuf> {
        [&self.control_token_file, &self.metrics_token_file].into_iter().flatten()
    }

    /// # Errors
    /// A token that cannot be had, an open control beyond loopback, a file that must not be replaced.
    pub(super) fn plan(&self) -> Result<Plan<'_>> {
        let control = match self.control {
            None => None,
            Some(addr) => {
                Some((addr, Access { token: self.token(addr)?, origins: self.control_origin.clone() }))
            }
        };
        let metrics = match self.metrics {
            None => None,
            Some(addr) => {
                let token = self.metrics_token_file.as_deref().map(Token::read).transpose()?;
                Some((addr, Access { token, origins: Vec::new() }))
            }
        };
        if let Some(path) = &self.control_url_file {
            UrlFile::check(path)?;
        }
        Ok(Plan { args: self, control, metrics })
    }

    fn token(&self, addr: SocketAddr) -> Result<Option<Token>> {
        match &self.control_token_file {
            Some(path) => Token::read(path).map(Some),
            None if !self.control_open => Token::random().map(Some),
            None if addr.ip().is_loopback() => Ok(None),
            None => Err(Error::usage(format!(
                "{addr}: with --control-open anybody on the network could see the patient and steer the session"
            ))
            .remedy("leave out --control-open, or listen on 127.0.0.1")),
        }
    }

    fn tell(&self, page: &str, whole: &str, context: &mut Context) -> Result<()> {
        match &self.control_token_file {
            // Whoever has the file knows it, and it outlives this session: it does not belong into logs.
            Some(path) => context.remark(format!("control page {page} (its token is in {})", path.display())),
            None if self.control_open => {
                context.remark(format!("control page {page} (open to everybody on this machine)"))
            }
            None if !context.quiet && !context.json => context.remark(format!("control page {whole}")),
            // A token that nobody is told would be of no use.
            None => {
                if self.control_url_file.is_none() {
                    let _ = writeln!(std::io::stderr(), "control page {whole}");
                }
                Ok(())
            }
        }
    }
}

impl Plan<'_> {
    /// Starts the listeners and says where the page is.
    ///
    /// # Errors
    /// An address that cannot be listened at, a file that cannot be written.
    pub(super) fn start(
        self,
        session: &Session,
        recordings: Option<RecorderSettings>,
        context: &mut Context,
    ) -> Result<Listening> {
        let mut listeners = Vec::new();
        let mut url_file = None;
        if let Some((addr, access)) = self.control {
            let token = access.token.clone();
            let control =
                Control::start(addr, access, Routes::All, Arc::new(session.session_control(recordings)))?;
            let page = format!("http://{}/", control.addr());
            let whole = token.map_or(page.clone(), |t| format!("{page}#{}", t.for_url()));
            if let Some(path) = &self.args.control_url_file {
                url_file = Some(UrlFile::write(path, &whole)?);
            }
            self.args.tell(&page, &whole, context)?;
            listeners.push(control);
        }
        if let Some((addr, access)) = self.metrics {
            let session_control = Arc::new(session.session_control(None));
            listeners.push(Control::start(addr, access, Routes::Metrics, session_control)?);
        }
        Ok(Listening { _listeners: listeners, _url: url_file })
    }
}

/// The page's address in a file of its owner's, as long as the session runs.
struct UrlFile {
    path: PathBuf,
    content: String,
}

/// An address and a token, with much room.
const LONGEST_URL: u64 = 8192;

impl UrlFile {
    /// Whether the file may be (re)placed: an earlier session's may, anything else is somebody's.
    fn check(path: &Path) -> Result<()> {
        let taken = || {
            Error::usage(format!("{}: is already there and holds no page's address", path.display()))
                .remedy("choose another name for --control-url-file")
        };
        match std::fs::symlink_metadata(path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
            Err(e) => Err(Error::write(path, e)),
            Ok(facts) if !facts.is_file() || facts.len() > LONGEST_URL => Err(taken()),
            Ok(_) => {
                let text = content(path).map_err(|e| Error::read(path, e))?;
                let ours = text.is_empty() || (text.starts_with("http://") && text.lines().count() == 1);
                if ours { Ok(()) } else { Err(taken()) }
            }
        }
    }

    /// Written aside and renamed: nobody reads half of it.
    fn write(path: &Path, url: &str) -> Result<Self> {
        Self::check(path)?;
        let folder = match path.parent() {
            Some(p) if !p.as_os_str().is_empty() => p,
            _ => Path::new("."),
        };
        let content = format!("{url}\n");
        // Temporary files are for their owner's eyes only.
        let refused = |e| Error::write(path, e);
        let mut aside =
            tempfile::Builder::new().prefix(".polypscope-url-").tempfile_in(folder).map_err(refused)?;
        aside.write_all(content.as_bytes()).map_err(refused)?;
        aside.persist(path).map_err(|e| Error::write(path, e.error))?;
        Ok(Self { path: path.to_owned(), content })
    }
}

/// Of a small file; what is no text counts as none of ours.
fn content(path: &Path) -> std::io::Result<String> {
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(LONGEST_URL).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

impl Drop for UrlFile {
    fn drop(&mut self) {
        // A session started meanwhile has put its own there.
        if content(&self.path).is_ok_and(|c| c == self.content) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        args: ListenArgs,
    }

    fn parse(words: &str) -> std::result::Result<ListenArgs, String> {
        let words = std::iter::once("live").chain(words.split_whitespace());
        Line::try_parse_from(words).map(|l| l.args).map_err(|e| e.to_string())
    }

    /// Whether control and metrics ask for a token.
    fn tokens(words: &str) -> Result<(Option<bool>, Option<bool>)> {
        let args = parse(words).expect(words);
        let plan = args.plan()?;
        let asks = |a: &Option<(SocketAddr, Access)>| a.as_ref().map(|a| a.1.token.is_some());
        Ok((asks(&plan.control), asks(&plan.metrics)))
    }

    #[test]
    fn the_picture_needs_a_token_and_the_figures_do_not() {
        for (words, expected) in [
            ("--control 127.0.0.1:0", (Some(true), None)),
            ("--control [::1]:0", (Some(true), None)),
            ("--control 0.0.0.0:0", (Some(true), None)),
            ("--control 127.0.0.1:0 --control-open", (Some(false), None)),
            ("--metrics 0.0.0.0:0", (None, Some(false))),
            ("--metrics [::]:0 --control 127.0.0.1:0", (Some(true), Some(false))),
        ] {
            assert_eq!(tokens(words).expect(words), expected, "{words}");
        }
        for addr in ["0.0.0.0:0", "[::]:0", "192.0.2.7:7700"] {
            let e = tokens(&format!("--control {addr} --control-open")).expect_err(addr);
            assert!(e.exit_code() == 2 && e.to_string().contains("anybody on the network"), "{e}");
        }
    }

    #[test]
    fn options_that_would_do_nothing_are_refused() {
        for words in [
            "--control-open",
            "--control-origin https://suite3",
            "--control-token-file x",
            "--control-url-file x",
            "--metrics-token-file x",
            "--control 127.0.0.1:0 --control-open --control-token-file x",
            "--control 127.0.0.1:0 --control-origin null",
            "--control 127.0.0.1:0 --control-origin https://suite3/polyps",
            "--control 127.0.0.1:0 --metrics-token-file x",
        ] {
            assert!(parse(words).is_err(), "{words}");
        }
        let args = parse("--control 127.0.0.1:0 --control-origin https://a --control-origin https://b:8443/");
        assert_eq!(args.expect("two origins").control_origin.len(), 2);
    }

    #[test]
    fn the_address_is_written_for_its_owner_and_goes_with_the_session() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("url");
        let first = UrlFile::write(&path, "http://127.0.0.1:1/#a").expect("it is written");
        assert_eq!(std::fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
        let second =
            UrlFile::write(&path, "http://127.0.0.1:2/#b").expect("an earlier session's is replaced");
        drop(first);
        assert_eq!(std::fs::read_to_string(&path).expect("the second's"), "http://127.0.0.1:2/#b\n");
        drop(second);
        assert!(!path.exists());
        for content in [&b"precious\n"[..], b"\xff\xfe", b"http://a\nhttp://b\n"] {
            std::fs::write(&path, content).expect("it is written");
            assert_eq!(UrlFile::check(&path).expect_err("it is somebody's").exit_code(), 2);
            assert_eq!(std::fs::read(&path).expect("untouched"), content);
        }
        assert!(UrlFile::check(dir.path()).is_err());
    }
}
