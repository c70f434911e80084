//! Why a live source gives no picture, in the words of what it was to open.
//!
//! In: GStreamer's error and the bin it comes from. Out: a [`SourceFault`]: the file, device or address concerned,
//! never with a password, and a typed cause. GStreamer says of most failures only that something could not be opened;
//! what the cause is, is then asked from the file system or the network.

use std::fmt;
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpStream, ToSocketAddrs, UdpSocket};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_pbutils as pbutils;

use crate::capture::address::{Address, without_secrets};
use crate::lock::lock;
use crate::{Error, Kind};

/// How long one address is given to answer, and all of them together with the resolving of the name.
const ANSWER: Duration = Duration::from_millis(800);
const PATIENCE: Duration = Duration::from_millis(1500);

/// Why a source gives no picture.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SourceCause {
    /// There is no such file or device.
    Missing,
    /// This process has no right to open it.
    NoPermission,
    /// The path is that of a folder.
    IsFolder,
    /// The file has no bytes.
    IsEmpty,
    /// A path that is not a capture device.
    NoDevice,
    /// Another program has it.
    Busy,
    /// The host's name is known to nobody.
    Unresolved,
    /// Nobody listens at the port.
    Refused,
    /// No network leads to the host.
    Unreachable,
    /// The host has not answered in time.
    NoAnswer,
    /// RTSP or HTTP 401, a wrong passphrase.
    NotAuthorised,
    /// 403.
    Forbidden,
    /// 404.
    NoSuchStream,
    /// Any other answer of a server.
    Status(u32),
    /// The stream is encoded otherwise than the pipeline file expects; what it is.
    OtherCodec(String),
    /// GStreamer lacks a decoder for it.
    NoDecoder(String),
    /// Its content is of no kind of video that GStreamer knows.
    NotVideo,
    /// It cannot be decrypted.
    Encrypted,
    /// Damaged, in GStreamer's words.
    Damaged(String),
    /// A listener that nobody has called.
    NotCalled,
    /// No frame for so many seconds.
    Silent(u64),
    /// The sender ended the stream.
    Ended,
    /// The other end closed the connection.
    Closed,
    /// In GStreamer's words.
    Other(String),
}

impl SourceCause {
    fn of_status(status: u32) -> Self {
        match status {
            401 | 407 => Self::NotAuthorised,
            403 => Self::Forbidden,
            404 | 410 => Self::NoSuchStream,
            other => Self::Status(other),
        }
    }

    /// Whether trying again cannot help until somebody changes something here.
    pub(super) fn is_final(&self) -> bool {
        matches!(
            self,
            Self::IsFolder
                | Self::NoDevice
                | Self::NotAuthorised
                | Self::Forbidden
                | Self::OtherCodec(_)
                | Self::NoDecoder(_)
                | Self::NotVideo
                | Self::Encrypted
        )
    }
}

/// What an element was to open.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Origin {
    File(PathBuf),
    Device(PathBuf),
    Address(Address),
    /// A card's number.
    Number(String),
    Unknown,
}

/// A source that failed: what it was to open, and why it gives no picture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceFault {
    origin: Origin,
    /// The pipeline file's name, where the origin is not known.
    name: String,
    cause: SourceCause,
}

/// What the source's demuxers offered, and whether the line takes it.
#[derive(Clone, Debug, Default)]
pub(super) struct Streams(Arc<Mutex<Offered>>);

#[derive(Debug, Default)]
struct Offered {
    /// Codec of each picture, and whether it is linked on.
    pictures: Vec<(String, bool)>,
    /// What GStreamer has no decoder for.
    missing: Option<String>,
}

impl Streams {
    /// Watches the elements of a bin that add pads while they run.
    pub(super) fn watch(&self, bin: &gst::Bin) {
        for element in bin.iterate_elements().into_iter().flatten() {
            let streams = self.clone();
            // The line's own links are tried before this, since they were connected first.
            element.connect_pad_added(move |_, pad| {
                let Some(what) = picture_codec(pad) else { return };
                let pictures = &mut streams.offered().pictures;
                // A camera that adds streams for ever must not fill the memory.
                if pictures.len() < 16 {
                    pictures.push((what, pad.is_linked()));
                }
            });
        }
    }

    fn offered(&self) -> std::sync::MutexGuard<'_, Offered> {
        lock(&self.0)
    }

    /// Notes what GStreamer has no decoder for, if a message says so.
    pub(super) fn note_missing(&self, message: &gst::Message) {
        if let gst::MessageView::Element(_) = message.view()
            && let Ok(missing) = pbutils::MissingPluginMessage::parse(message)
        {
            self.offered().missing.get_or_insert(missing.description().to_string());
        }
    }

    /// The picture's codec, if there was a picture and the line took none of it.
    fn not_taken(&self) -> Option<String> {
        let offered = self.offered();
        if offered.pictures.iter().any(|(_, linked)| *linked) {
            return None;
        }
        offered.pictures.first().map(|(what, _)| what.clone())
    }

    fn missing(&self) -> Option<String> {
        self.offered().missing.clone()
    }
}

/// The codec of a pad that carries a picture.
fn picture_codec(pad: &gst::Pad) -> Option<String> {
    let caps = pad.current_caps().unwrap_or_else(|| pad.query_caps(None));
    let s = caps.structure(0)?;
    if s.name() == "application/x-rtp" {
        return s
            .get::<String>("media")
            .is_ok_and(|m| m == "video")
            .then(|| s.get("encoding-name").unwrap_or_else(|_| "an unknown codec".to_owned()));
    }
    let is_picture = s.name().starts_with("video/") || s.name().starts_with("image/");
    is_picture.then(|| pbutils::pb_utils_get_codec_description(&caps).to_string())
}

impl SourceFault {
    /// From an error that an element of `bin` posted. Asks the file system or the network where the error does not say
    /// more than that something could not be opened, for up to 1.5 s.
    pub(super) fn read(
        error: &gst::message::Error,
        bin: &gst::Bin,
        streams: &Streams,
        name: &str,
        secrets: &[String],
    ) -> Self {
        let origin = Origin::of(error.src(), bin);
        let cause = cause(error, &origin, streams, secrets);
        Self { origin, name: name.to_owned(), cause }
    }

    /// For a source that gives nothing and reports nothing but, perhaps, a warning.
    pub(super) fn silent(
        bin: &gst::Bin,
        seconds: u64,
        warning: Option<&gst::glib::Error>,
        ever: bool,
        name: &str,
    ) -> Self {
        let origin = Origin::of(None, bin);
        let cause = match &origin {
            _ if warning.is_some_and(|w| w.matches(gst::ResourceError::NotAuthorized)) => {
                SourceCause::NotAuthorised
            }
            Origin::Address(address) if !ever && address.listens => SourceCause::NotCalled,
            _ => origin.ask().unwrap_or(SourceCause::Silent(seconds)),
        };
        Self { origin, name: name.to_owned(), cause }
    }

    pub(super) fn ended(bin: &gst::Bin, name: &str) -> Self {
        Self { origin: Origin::of(None, bin), name: name.to_owned(), cause: SourceCause::Ended }
    }

    /// When nothing is known but that it does not start.
    pub(super) fn unknown(bin: &gst::Bin, name: &str) -> Self {
        let origin = Origin::of(None, bin);
        let cause = origin.ask().unwrap_or_else(|| SourceCause::Other("it does not start".into()));
        Self { origin, name: name.to_owned(), cause }
    }

    /// Why it gives no picture.
    pub fn cause(&self) -> &SourceCause {
        &self.cause
    }

    /// The sentence with what to do.
    pub fn error(&self) -> Error {
        let kind = match self.cause {
            SourceCause::NoDecoder(_) => Kind::Machine,
            _ => Kind::Input,
        };
        Error::new(kind, self.to_string()).remedy(self.remedy())
    }

    fn remedy(&self) -> &'static str {
        let is_device = matches!(self.origin, Origin::Device(_) | Origin::Number(_));
        match self.cause {
            SourceCause::Missing if is_device => "plug it in, or see `polypscope devices` for what there is",
            SourceCause::Missing | SourceCause::IsFolder => "check the path",
            SourceCause::NoPermission if is_device => {
                "become a member of the group it belongs to, usually video"
            }
            SourceCause::NoPermission => "check its permissions",
            SourceCause::IsEmpty | SourceCause::Damaged(_) => "copy or export it again",
            SourceCause::NoDevice => "see `polypscope devices` for what there is",
            SourceCause::Busy => "close the other program",
            SourceCause::Unresolved => "check its spelling and the network's name server",
            SourceCause::Refused => "check the port, and that the sender is running",
            SourceCause::Unreachable => "check the cable and the network",
            SourceCause::NoAnswer => "check the address, and that no firewall is in between",
            SourceCause::NotAuthorised => "check the user name and the password in the address",
            SourceCause::Forbidden => "ask whoever runs it for access",
            SourceCause::NoSuchStream => "check the path behind the host",
            SourceCause::Status(_) => "look into the sender's log",
            SourceCause::OtherCodec(_) => {
                "set the sender to the pipeline's codec, or write a file with another decoder"
            }
            SourceCause::NoDecoder(_) => "install gstreamer1.0-libav and gstreamer1.0-plugins-bad",
            SourceCause::NotVideo => "check that it is a video",
            SourceCause::Encrypted => "decrypt it first",
            SourceCause::NotCalled => "start the sender, and let it call this machine's address and port",
            SourceCause::Silent(_) | SourceCause::Ended | SourceCause::Closed => {
                "check that the sender sends a picture"
            }
            SourceCause::Other(_) => "run with -v for details",
        }
    }
}

impl fmt::Display for SourceFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = match &self.origin {
            Origin::Address(a) => match (&a.host, a.port) {
                (Some(host), Some(port)) if host.contains(':') => format!("[{host}]:{port}"),
                (Some(host), Some(port)) => format!("{host}:{port}"),
                (Some(host), None) => host.clone(),
                (None, _) => a.shown.clone(),
            },
            _ => String::new(),
        };
        match &self.origin {
            Origin::File(path) | Origin::Device(path) => write!(f, "{}: ", path.display())?,
            Origin::Address(a) => write!(f, "{}: ", a.shown)?,
            Origin::Number(what) => write!(f, "{what}: ")?,
            Origin::Unknown => write!(f, "{}: ", self.name)?,
        }
        match &self.cause {
            SourceCause::Missing => f.write_str("cannot be found"),
            SourceCause::NoPermission => f.write_str("may not be opened (permission denied)"),
            SourceCause::IsFolder => f.write_str("is a folder"),
            SourceCause::IsEmpty => f.write_str("is empty"),
            SourceCause::NoDevice => f.write_str("is not a capture device"),
            SourceCause::Busy => f.write_str("is in use by another program"),
            SourceCause::Unresolved => {
                let name = match &self.origin {
                    Origin::Address(Address { host: Some(host), .. }) => host,
                    _ => &host,
                };
                write!(f, "the host name {name} cannot be resolved")
            }
            SourceCause::Refused => write!(f, "{host} refuses the connection, nobody listens there"),
            SourceCause::Unreachable => write!(f, "{host} cannot be reached"),
            SourceCause::NoAnswer => write!(f, "{host} does not answer"),
            SourceCause::NotAuthorised => f.write_str("the user name or the password is not accepted"),
            SourceCause::Forbidden => f.write_str("the server forbids access"),
            SourceCause::NoSuchStream => f.write_str("the server has no such stream"),
            SourceCause::Status(status) => write!(f, "the server answers with status {status}"),
            SourceCause::OtherCodec(codec) => {
                write!(f, "the stream is {codec}, which this pipeline does not decode")
            }
            SourceCause::NoDecoder(codec) => write!(f, "GStreamer has no decoder for {codec}"),
            SourceCause::NotVideo => f.write_str("is not a video GStreamer knows"),
            SourceCause::Encrypted => f.write_str("is encrypted"),
            SourceCause::Damaged(words) => write!(f, "is damaged or cut off ({words})"),
            SourceCause::NotCalled => f.write_str("nobody has called yet"),
            SourceCause::Silent(seconds) => write!(f, "no frame for {seconds} s"),
            SourceCause::Ended => f.write_str("the stream ended"),
            SourceCause::Closed => write!(f, "{host} closed the connection"),
            SourceCause::Other(words) => write!(f, "cannot be played ({words})"),
        }
    }
}

/// An error of the sink's, with the file or address concerned.
pub(super) fn sink_error(
    error: &gst::message::Error,
    bin: Option<&gst::Bin>,
    name: &str,
    secrets: &[String],
) -> Error {
    let origin = bin.map_or(Origin::Unknown, |bin| Origin::of(error.src(), bin));
    match origin {
        Origin::Address(address) => {
            let cause = Origin::Address(address.clone())
                .ask()
                .unwrap_or_else(|| SourceCause::Other(sentence(&error.error(), secrets)));
            SourceFault { origin: Origin::Address(address), name: name.to_owned(), cause }.error()
        }
        Origin::File(path) | Origin::Device(path) => {
            crate::capture::messages::translate(&error.error(), &path)
        }
        Origin::Number(what) => crate::capture::messages::translate(&error.error(), what.as_ref()),
        Origin::Unknown => crate::capture::messages::translate(&error.error(), name.as_ref()),
    }
}

/// GStreamer's text without its final full stop and without secrets.
fn sentence(e: &gst::glib::Error, secrets: &[String]) -> String {
    without_secrets(e.message().trim().trim_end_matches('.'), secrets)
}

fn cause(error: &gst::message::Error, origin: &Origin, streams: &Streams, secrets: &[String]) -> SourceCause {
    let status = error.details().and_then(|d| {
        ["rtsp-status-code", "http-status-code"].into_iter().find_map(|key| d.get::<u32>(key).ok())
    });
    if let Some(status) = status.filter(|s| *s >= 300) {
        return SourceCause::of_status(status);
    }
    let e = error.error();
    if e.matches(gst::ResourceError::Busy) {
        return SourceCause::Busy;
    }
    if e.matches(gst::ResourceError::NotAuthorized) && matches!(origin, Origin::Address(_)) {
        return SourceCause::NotAuthorised;
    }
    let is_local = matches!(origin, Origin::File(_) | Origin::Device(_));
    if is_local && let Some(cause) = origin.ask() {
        return cause;
    }
    if e.matches(gst::StreamError::CodecNotFound) || e.matches(gst::CoreError::MissingPlugin) {
        let codec = streams.missing().or_else(|| streams.not_taken());
        return SourceCause::NoDecoder(codec.unwrap_or_else(|| "its codec".into()));
    }
    if e.matches(gst::StreamError::Decrypt) || e.matches(gst::StreamError::DecryptNokey) {
        return SourceCause::Encrypted;
    }
    if let Some(codec) = streams.not_taken() {
        return SourceCause::OtherCodec(codec);
    }
    if let Some(cause) = (!is_local).then(|| origin.ask()).flatten() {
        return cause;
    }
    if e.matches(gst::ResourceError::NotFound) {
        return match origin {
            Origin::Address(_) => SourceCause::NoSuchStream,
            _ => SourceCause::Missing,
        };
    }
    if e.matches(gst::ResourceError::Read) && matches!(origin, Origin::Address(_)) {
        return SourceCause::Closed;
    }
    // A device that does not answer as a capture device does.
    if e.matches(gst::ResourceError::Settings) && matches!(origin, Origin::Device(_)) {
        return SourceCause::NoDevice;
    }
    if e.matches(gst::StreamError::TypeNotFound) || e.matches(gst::StreamError::WrongType) {
        return SourceCause::NotVideo;
    }
    let damaged = e.matches(gst::StreamError::Demux)
        || e.matches(gst::StreamError::Decode)
        || e.matches(gst::StreamError::Format);
    if damaged {
        SourceCause::Damaged(sentence(&e, secrets))
    } else {
        SourceCause::Other(sentence(&e, secrets))
    }
}

impl Origin {
    /// What the element that failed was to open, or else what an element of the bin opens. Of elements in one another
    /// the outermost counts: its address is the one somebody wrote.
    fn of(object: Option<&gst::Object>, bin: &gst::Bin) -> Self {
        let mut found = None;
        let mut at = object.cloned();
        while let Some(o) = at.filter(|o| o != bin.upcast_ref::<gst::Object>()) {
            found = o.downcast_ref::<gst::Element>().and_then(Self::opened_by).or(found);
            at = o.parent();
        }
        let any = |elements: Vec<gst::Element>| elements.iter().find_map(Self::opened_by);
        found
            .or_else(|| any(bin.children()))
            .or_else(|| any(bin.iterate_recurse().into_iter().flatten().collect()))
            .unwrap_or(Self::Unknown)
    }

    fn opened_by(element: &gst::Element) -> Option<Self> {
        let text = |name: &str| {
            let spec = element.find_property(name)?;
            let readable = spec.flags().contains(gst::glib::ParamFlags::READABLE);
            (readable && spec.value_type() == gst::glib::Type::STRING)
                .then(|| element.property::<Option<String>>(name))
                .flatten()
                .filter(|t| !t.is_empty())
        };
        let number = |name: &str| {
            element.find_property(name).filter(|s| s.value_type() == gst::glib::Type::I32)?;
            Some(element.property::<i32>(name))
        };
        for name in ["location", "uri"] {
            if let Some(text) = text(name) {
                return Some(match Address::parse(&text) {
                    Some(address) if address.scheme == "file" => Self::File(file_of(&text)),
                    Some(address) => Self::Address(address),
                    None => Self::File(text.into()),
                });
            }
        }
        if let Some(host) = text("host") {
            let port = number("port").map_or_else(String::new, |p| format!(":{p}"));
            return Address::parse(&format!("tcp://{host}{port}")).map(Self::Address);
        }
        if let Some(path) = text("device").filter(|d| d.starts_with('/')) {
            return Some(Self::Device(path.into()));
        }
        let number = number("device-number")?;
        let factory = element.factory().map_or_else(String::new, |f| f.name().to_string());
        Some(Self::Number(format!("{factory} device {number}")))
    }

    /// Why it cannot be opened, as the file system or the network has it; `None` if it can, or cannot be asked.
    fn ask(&self) -> Option<SourceCause> {
        use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
        let of_error = |e: &std::io::Error| match e.kind() {
            ErrorKind::NotFound | ErrorKind::NotADirectory => Some(SourceCause::Missing),
            ErrorKind::PermissionDenied => Some(SourceCause::NoPermission),
            ErrorKind::ResourceBusy => Some(SourceCause::Busy),
            _ => None,
        };
        match self {
            Self::File(path) => match path.metadata() {
                Err(e) => of_error(&e),
                Ok(m) if m.is_dir() => Some(SourceCause::IsFolder),
                // Opening a pipe would wait for its other end.
                Ok(m) if !m.is_file() => None,
                Ok(m) if m.len() == 0 => Some(SourceCause::IsEmpty),
                Ok(_) => std::fs::File::open(path).err().and_then(|e| of_error(&e)),
            },
            Self::Device(path) => match path.metadata() {
                Err(e) => of_error(&e),
                Ok(m) if !m.file_type().is_char_device() => Some(SourceCause::NoDevice),
                Ok(_) => {
                    let mut options = std::fs::OpenOptions::new();
                    options.read(true).write(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY);
                    options.open(path).err().and_then(|e| of_error(&e))
                }
            },
            Self::Address(address) => ask_network(address),
            Self::Number(_) | Self::Unknown => None,
        }
    }
}

/// The path in a `file://` address.
fn file_of(uri: &str) -> PathBuf {
    gst::glib::filename_from_uri(uri).map_or_else(|_| uri.into(), |(path, _)| path)
}

/// Why a host does not serve an address; `None` if it takes the connection.
fn ask_network(address: &Address) -> Option<SourceCause> {
    let host = address.host.clone().filter(|_| !address.listens)?;
    let usual = match address.scheme.as_str() {
        "rtsps" | "rtspsu" | "rtspst" | "rtspsh" => 322,
        scheme if scheme.starts_with("rtsp") => 554,
        "http" => 80,
        "https" => 443,
        "rtmp" | "rtmpt" => 1935,
        "rtmps" => 443,
        "tcp" | "srt" => 0,
        _ => return None,
    };
    let port = address.port.unwrap_or(usual);
    let datagrams = address.scheme == "srt";
    // A name server may take its time, and cannot be interrupted.
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::Builder::new()
        .name("network-check".into())
        .spawn(move || {
            let _ = tell.send(match (host.as_str(), port).to_socket_addrs() {
                Err(_) => Some(SourceCause::Unresolved),
                Ok(addresses) => connect(addresses, datagrams),
            });
        })
        .ok()?;
    told.recv_timeout(PATIENCE).unwrap_or(Some(SourceCause::NoAnswer))
}

fn connect(addresses: impl Iterator<Item = SocketAddr>, datagrams: bool) -> Option<SourceCause> {
    let mut cause = SourceCause::Unresolved;
    for address in addresses {
        let outcome =
            if datagrams { knock(address) } else { TcpStream::connect_timeout(&address, ANSWER).map(drop) };
        cause = match outcome {
            Ok(()) => return None,
            Err(e) => match e.kind() {
                ErrorKind::ConnectionRefused => SourceCause::Refused,
                ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable => SourceCause::Unreachable,
                _ => SourceCause::NoAnswer,
            },
        };
    }
    Some(cause)
}

/// Sends an empty datagram, which every receiver ignores, to learn whether the host says that nobody listens.
fn knock(address: SocketAddr) -> std::io::Result<()> {
    if address.port() == 0 || address.ip().is_multicast() {
        return Ok(());
    }
    let any: SocketAddr = if address.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0u16; 8], 0).into() };
    let socket = UdpSocket::bind(any)?;
    socket.connect(address)?;
    socket.set_read_timeout(Some(Duration::from_millis(200)))?;
    socket.send(&[])?;
    match socket.recv(&mut [0; 16]) {
        Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => Ok(()),
        other => other.map(|_| ()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(text: &str) -> Option<SourceCause> {
        Origin::Address(Address::parse(text).unwrap()).ask()
    }

    #[test]
    fn the_network_is_asked_for_the_cause() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        assert_eq!(asked(&format!("rtsp://u:p@127.0.0.1:{port}/live")), None);
        drop(listener);
        assert_eq!(asked(&format!("rtsp://127.0.0.1:{port}/live")), Some(SourceCause::Refused));
        let free = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        assert_eq!(asked(&format!("srt://127.0.0.1:{free}?mode=caller")), Some(SourceCause::Refused));
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let taken = socket.local_addr().unwrap().port();
        assert_eq!(asked(&format!("srt://127.0.0.1:{taken}")), None);
        assert_eq!(asked("srt://:7001?mode=listener"), None);
    }

    #[test]
    fn files_and_devices_are_asked_too() {
        let dir = tempfile::tempdir().unwrap();
        let at = |n: &str| dir.path().join(n);
        std::fs::write(at("empty"), b"").unwrap();
        std::fs::write(at("full"), b"x").unwrap();
        assert_eq!(Origin::File(at("none")).ask(), Some(SourceCause::Missing));
        assert_eq!(Origin::File(dir.path().into()).ask(), Some(SourceCause::IsFolder));
        assert_eq!(Origin::File(at("empty")).ask(), Some(SourceCause::IsEmpty));
        assert_eq!(Origin::File(at("full")).ask(), None);
        assert_eq!(Origin::Device(at("none")).ask(), Some(SourceCause::Missing));
        assert_eq!(Origin::Device(at("full")).ask(), Some(SourceCause::NoDevice));
        assert_eq!(Origin::Device("/dev/null".into()).ask(), None);
    }

    #[test]
    fn a_sentence_names_the_host_and_never_the_password() {
        let origin = Origin::Address(Address::parse("rtsp://u:geheim@tower:8554/live").unwrap());
        for cause in [
            SourceCause::Refused,
            SourceCause::Unresolved,
            SourceCause::NotAuthorised,
            SourceCause::OtherCodec("H265".into()),
            SourceCause::Status(454),
            SourceCause::Silent(4),
        ] {
            let fault = SourceFault { origin: origin.clone(), name: "my.toml".into(), cause };
            let text = format!("{} {:?}", fault.error(), fault.error());
            assert!(text.contains("tower") && !text.contains("geheim"), "{text}");
        }
    }
}
