//! Addresses of network sources, and text without the passwords they hold.
//!
//! In: an address as a user wrote it, or any text of GStreamer's. Out: host and port, and the same text as it may be
//! shown.

/// Keys of an address's query whose values nobody else may read.
const SECRET_KEYS: &[&str] = &[
    "passphrase",
    "password",
    "passwd",
    "pass",
    "pwd",
    "pw",
    "token",
    "access_token",
    "auth",
    "key",
    "apikey",
    "api_key",
    "secret",
    "sig",
    "signature",
    "streamid",
];

/// What stands in place of a secret.
const HIDDEN: &str = "…";

/// An address taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Address {
    /// As it may be shown: without user, password and secret keys.
    pub(crate) shown: String,
    pub(crate) scheme: String,
    /// `None` for a listener on every interface.
    pub(crate) host: Option<String>,
    pub(crate) port: Option<u16>,
    /// It waits to be called, as SRT's `mode=listener` does.
    pub(crate) listens: bool,
    /// The text of its passwords, as written and decoded.
    pub(crate) secrets: Vec<String>,
}

impl Address {
    /// `None` if the text does not begin with `scheme://`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (scheme, rest) = text.split_once("://")?;
        if !is_scheme(scheme) {
            return None;
        }
        let mut secrets = Vec::new();
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        // What the password is if it holds characters that it should have escaped.
        let longest = || {
            let before = rest.rsplit_once('@').map_or("", |(before, _)| before);
            before.split_once(':').map_or("", |(_, password)| password)
        };
        let (user, at_host, shown) = match authority.rsplit_once('@') {
            // A path that holds an `@`, or a password that holds the `/` it should have escaped: then the host is not
            // where it seems to be, and what seems to be the host is not shown.
            Some((user, host)) if path.contains('@') => {
                add_secret(&mut secrets, longest());
                (Some(user), host, HIDDEN.to_owned())
            }
            Some((user, host)) => (Some(user), host, format!("{host}{}", shown_path(path, &mut secrets))),
            None if path.contains('@') && authority.contains(':') => {
                add_secret(&mut secrets, longest());
                match host_before_port(authority) {
                    // A host with a path that holds an `@`, or a user with a password that begins with digits: the
                    // first is likelier and is where we call, but only what both readings may show is shown.
                    Some(host) => (None, authority, format!("{host}{HIDDEN}")),
                    None => (Some(rest.rsplit_once('@').map_or(rest, |(user, _)| user)), "", String::new()),
                }
            }
            None => (None, authority, format!("{authority}{}", shown_path(path, &mut secrets))),
        };
        if let Some(password) = user.map(|u| u.split_once(':').map_or(u, |(_, password)| password)) {
            add_secret(&mut secrets, password);
        }
        let (host, port) = split_port(at_host);
        let shown = format!("{scheme}://{shown}");
        let scheme = scheme.to_ascii_lowercase();
        let is_listener = text.split(['?', '&']).any(|pair| pair == "mode=listener");
        let listens = is_listener || (host.is_empty() && scheme == "srt");
        let host = (!host.is_empty()).then(|| host.to_owned());
        Some(Self { shown, scheme, host, port, listens, secrets })
    }
}

/// A scheme as RFC 3986 has it.
pub(crate) fn is_scheme(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
}

/// The host, with its brackets, of an authority that can be nothing else but a host and a port with one colon between
/// them.
fn host_before_port(authority: &str) -> Option<&str> {
    let (host, port) = authority.rsplit_once(':')?;
    let is_host = match host.strip_prefix('[').and_then(|h| h.strip_suffix(']')) {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => !host.is_empty() && host.chars().all(|c| c.is_ascii_alphanumeric() || "-._".contains(c)),
    };
    (is_host && port.parse::<u16>().is_ok()).then_some(host)
}

fn split_port(at_host: &str) -> (&str, Option<u16>) {
    match at_host.rsplit_once(':') {
        // Colons inside brackets belong to an IPv6 address.
        Some((host, port)) if !port.contains(']') => (unbracketed(host), port.parse().ok()),
        _ => (unbracketed(at_host), None),
    }
}

fn unbracketed(host: &str) -> &str {
    host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host)
}

fn add_secret(secrets: &mut Vec<String>, text: &str) {
    // A single character would take half of every message with it.
    for text in [text.to_owned(), decoded(text)] {
        if text.chars().count() > 1 && !secrets.contains(&text) {
            secrets.push(text);
        }
    }
}

/// Percent sequences as the characters they stand for.
fn decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let hex = bytes.get(at + 1..at + 3).and_then(|h| std::str::from_utf8(h).ok());
        match hex.and_then(|h| u8::from_str_radix(h, 16).ok()).filter(|_| byte == b'%') {
            Some(value) => {
                out.push(value);
                at += 3;
            }
            None => {
                out.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Path and query with the values of secret keys hidden.
fn shown_path(path: &str, secrets: &mut Vec<String>) -> String {
    let Some((path, query)) = path.split_once('?') else { return path.to_owned() };
    let pairs: Vec<String> = query
        .split('&')
        .map(|pair| match pair.split_once('=') {
            Some((key, value)) if is_secret(key) && !value.is_empty() => {
                add_secret(secrets, value);
                format!("{key}={HIDDEN}")
            }
            _ => pair.to_owned(),
        })
        .collect();
    format!("{path}?{}", pairs.join("&"))
}

/// Whether a property or key of this name holds a secret.
pub(crate) fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    SECRET_KEYS.contains(&name.as_str())
        || name.split(['-', '_']).any(|word| {
            ["passphrase", "password", "passwd", "pw", "pwd", "pass", "token", "secret"].contains(&word)
        })
}

/// Text as it may be shown: addresses in it lose their users and passwords, and nothing of `secrets` is left.
pub(crate) fn without_secrets(text: &str, secrets: &[String]) -> String {
    // The known ones first: one that holds a space would end its address too early.
    let text = secrets.iter().fold(text.to_owned(), |text, secret| text.replace(secret.as_str(), HIDDEN));
    let mut out = String::with_capacity(text.len());
    let mut rest = text.as_str();
    while let Some(at) = rest.find("://") {
        let scheme = rest[..at]
            .char_indices()
            .rev()
            .take_while(|(_, c)| c.is_ascii_alphanumeric() || "+-.".contains(*c))
            .last()
            .map_or(at, |(i, _)| i);
        let end = rest[at..]
            .find(|c: char| c.is_whitespace() || c.is_control() || "\"'<>".contains(c))
            .map_or(rest.len(), |e| at + e);
        out.push_str(&rest[..scheme]);
        match Address::parse(&rest[scheme..end]) {
            Some(address) => out.push_str(&address.shown),
            None => out.push_str(&rest[scheme..end]),
        }
        rest = &rest[end..];
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Address {
        Address::parse(text).expect("an address")
    }

    #[test]
    fn an_address_is_shown_without_its_password() {
        for (text, shown, host, port) in [
            ("rtsp://tower.local/live", "rtsp://tower.local/live", Some("tower.local"), None),
            ("rtsp://u:geheim@tower:8554/live", "rtsp://tower:8554/live", Some("tower"), Some(8554)),
            ("rtsp://u:ge%68eim@[::1]:8554/a", "rtsp://[::1]:8554/a", Some("::1"), Some(8554)),
            ("rtsp://u:ge%68eim@[::1]:8554/a@b", "rtsp://…", Some("::1"), Some(8554)),
            ("rtsp://u:@eim?@tower/", "rtsp://…", Some("eim"), None),
            ("rtsp://u:geh@eim@tower/", "rtsp://tower/", Some("tower"), None),
            ("rtsp://u:geh/eim@tower/", "rtsp://", None, None),
            ("rtsp://tower/cam@1", "rtsp://tower/cam@1", Some("tower"), None),
            ("rtsp://tower:8554/cam@1", "rtsp://tower…", Some("tower"), Some(8554)),
            ("rtsp://[::1]:8554/cam@1", "rtsp://[::1]…", Some("::1"), Some(8554)),
            // A password may begin with a port, end with a colon, or hold brackets.
            ("rtsp://u:12345/eim@tower/", "rtsp://u…", Some("u"), Some(12345)),
            ("rtsp://u:0:/eim@tower/", "rtsp://", None, None),
            ("rtsp://u:[eim]:1/x@tower/", "rtsp://", None, None),
            ("rtsp://[eim]:1/x@tower/", "rtsp://", None, None),
            (
                "srt://:7001?mode=listener&passphrase=geheimgeheim",
                "srt://:7001?mode=listener&passphrase=…",
                None,
                Some(7001),
            ),
            ("https://h/x?Token=geheim&q=1", "https://h/x?Token=…&q=1", Some("h"), None),
        ] {
            let a = parsed(text);
            assert_eq!((a.shown.as_str(), a.host.as_deref(), a.port), (shown, host, port), "{text}");
            assert!(!a.shown.contains("eim"), "{text}");
        }
        assert!(Address::parse("/dev/video0").is_none() && Address::parse("no scheme://x").is_none());
    }

    #[test]
    fn text_loses_addresses_passwords_and_known_secrets() {
        let a = parsed("rtsp://u:ge%68eim@tower/live");
        let text = "failed: rtsp://u:ge%68eim@tower/live (\"http://x:y@z/\") with geheim and ge%68eim";
        assert_eq!(
            without_secrets(text, &a.secrets),
            "failed: rtsp://tower/live (\"http://z/\") with … and …"
        );
        assert_eq!(without_secrets("a :// b ://", &[]), "a :// b ://");
        // A quote ends an address in a text, and `?` its host, also where both are the password's.
        let a = parsed("rtsp://user:'@?secret@a/");
        assert!(!without_secrets("cannot open rtsp://user:'@?secret@a/ now", &a.secrets).contains("secret"));
    }

    proptest::proptest! {
        /// Whatever the password is, neither an address nor a text that quotes it shows it.
        #[test]
        fn no_password_is_shown(password in "[ -~äß]{6,20}", host in "[a-z]{1,5}", path in "[a-z/]{0,9}") {
            let url = format!("rtsp://user:{password}@{host}/{path}");
            let a = parsed(&url);
            let shown = without_secrets(&format!("cannot open {url} now"), &a.secrets);
            proptest::prop_assert!(!a.shown.contains(&password), "{}", a.shown);
            proptest::prop_assert!(!shown.contains(&password), "{}", shown);
        }

        /// Nor most of it, if it holds what an address gives a meaning to.
        #[test]
        fn no_part_of_a_password_is_shown(
            parts in proptest::collection::vec("(Z{4}|[0-9]{1,5}|[:/@?#&=%.]|\\[|\\])", 1..9),
        ) {
            let url = format!("rtsp://user:{}@tower/live", parts.concat());
            let a = parsed(&url);
            let shown = without_secrets(&format!("cannot open {url} now"), &a.secrets);
            proptest::prop_assert!(!a.shown.contains('Z') && !shown.contains('Z'), "{}: {}, {}", url, a.shown, shown);
        }
    }
}
