//! Names that pages and requests call the session by.
//!
//! In: the `Origin` and `Host` headers, and the origins allowed on the command line. Out: both in one form, so that the
//! letters' case, a default port, a final slash or another spelling of an IPv6 address make no difference.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use axum::http::uri::{Authority, Uri};

use crate::{Error, Result};

/// A host and, where one is said, its port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct HostPort {
    /// In small letters; an IPv6 address in brackets, as short as can be.
    pub name: String,
    pub port: Option<u16>,
}

impl HostPort {
    /// Reads a `Host` header.
    pub(super) fn parse(text: &str) -> Option<Self> {
        Self::of(&text.parse::<Authority>().ok()?)
    }

    fn of(authority: &Authority) -> Option<Self> {
        let host = authority.host();
        let port = match authority.as_str().strip_prefix(host)? {
            "" => None,
            // A port that is no number is not taken for no port. User names do not begin with the host and end here
            // too.
            rest => Some(rest.strip_prefix(':')?.parse().ok()?),
        };
        let name = match host.strip_prefix('[') {
            Some(inner) => format!("[{}]", inner.strip_suffix(']')?.parse::<Ipv6Addr>().ok()?),
            None => host.to_ascii_lowercase(),
        };
        (!name.is_empty()).then_some(Self { name, port })
    }

    /// Whether this names the address listened at, over plain HTTP.
    pub(super) fn is_of(&self, addr: SocketAddr) -> bool {
        let ip = self.name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>().ok();
        (ip == Some(addr.ip()) || self.name == "localhost") && self.port.unwrap_or(80) == addr.port()
    }
}

/// Where a page comes from: `http` or `https`, a host, a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    secure: bool,
    name: String,
    port: u16,
}

impl Origin {
    pub(super) fn parse(text: &str) -> Option<Self> {
        let uri: Uri = text.parse().ok()?;
        let secure = match uri.scheme_str()? {
            "https" => true,
            "http" => false,
            _ => return None,
        };
        if uri.path() != "/" && !uri.path().is_empty() || uri.query().is_some() || text.contains('#') {
            return None;
        }
        let place = HostPort::of(uri.authority()?)?;
        Some(Self { secure, name: place.name, port: place.port.unwrap_or(if secure { 443 } else { 80 }) })
    }

    /// Whether a page of this origin was asked for over plain HTTP from this host.
    pub(super) fn is_plain(&self, host: &HostPort) -> bool {
        !self.secure && self.name == host.name && self.port == host.port.unwrap_or(80)
    }

    /// Whether a proxy that publishes the page as this origin may hand on this `Host`: some leave its port out.
    pub(super) fn is_published_as(&self, host: &HostPort) -> bool {
        self.name == host.name && host.port.is_none_or(|p| p == self.port)
    }
}

/// As on the command line.
impl FromStr for Origin {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::parse(text).ok_or_else(|| {
            Error::usage(format!("{text:?} is not a page's origin"))
                .remedy("write scheme, host and port alone, such as https://suite3:18443")
        })
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http{}://{}:{}", if self.secure { "s" } else { "" }, self.name, self.port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_origin_has_many_spellings() {
        let same = |a: &str, b: &str| Origin::parse(a).expect(a) == Origin::parse(b).expect(b);
        assert!(same("https://Suite3:18443/", "https://suite3:18443"));
        assert!(same("https://suite3", "HTTPS://SUITE3:443"));
        assert!(same("http://suite3:80/", "http://suite3"));
        assert!(same("https://[2001:DB8:0:0::1]:8443", "https://[2001:db8::1]:8443"));
        assert!(!same("https://suite3", "http://suite3"));
        assert!(!same("https://suite3", "https://suite3:80"));
        assert!(!same("https://suite3", "https://suite3.evil.example"));
    }

    #[test]
    fn what_is_no_origin_is_refused() {
        for text in [
            "null",
            "",
            "*",
            "suite3",
            "suite3:18443",
            "//suite3",
            "https://",
            "https://:443",
            "ftp://suite3",
            "https://user@suite3",
            "https://suite3:18443/polyps/",
            "https://suite3?x",
            "https://suite3#x",
            "https://suite3:99999",
            "https://suite3:port",
            "https://[::1",
            "https://[zz]",
            "https://a b",
            "file:///",
        ] {
            let e = text.parse::<Origin>().map(|o| o.to_string());
            assert!(e.is_err(), "{text}: {e:?}");
        }
    }

    #[test]
    fn hosts_name_the_listener_or_not() {
        let four: SocketAddr = "127.0.0.1:7700".parse().expect("an address");
        let six: SocketAddr = "[::1]:7700".parse().expect("an address");
        let eighty: SocketAddr = "127.0.0.1:80".parse().expect("an address");
        for (host, addr, ours) in [
            ("127.0.0.1:7700", four, true),
            ("LocalHost:7700", four, true),
            ("localhost", four, false),
            ("127.0.0.1", eighty, true),
            ("localhost:80", eighty, true),
            ("[::1]:7700", six, true),
            ("[0:0:0:0:0:0:0:1]:7700", six, true),
            ("[::1]:7700", four, false),
            ("evil.example:7700", four, false),
            ("127.0.0.1.evil.example:7700", four, false),
            ("127.0.0.1:7701", four, false),
        ] {
            assert_eq!(HostPort::parse(host).is_some_and(|p| p.is_of(addr)), ours, "{host} at {addr}");
        }
        for host in ["", "a@127.0.0.1:7700", "127.0.0.1:7700:1", "127.0.0.1:x", "a b", "127.0.0.1:7700/"] {
            assert_eq!(HostPort::parse(host), None, "{host}");
        }
    }
}
