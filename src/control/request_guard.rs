//! Who may ask.
//!
//! In: a request's method, path and headers. Out: let through, known or not, or refused with a sentence.

use std::net::SocketAddr;

use axum::http::{HeaderMap, Method, StatusCode};

use super::Access;
use super::origin::{HostPort, Origin};

/// What requests are held against.
#[derive(Clone, Debug)]
pub(super) struct Guard {
    pub addr: SocketAddr,
    pub access: Access,
    /// Whether the figures alone are given here.
    pub figures_only: bool,
}

/// Status and sentence of a refusal.
pub(super) type Refusal = (StatusCode, String);

/// The value of a header that must not come twice, nor in letters nobody can read: either could be taken for its
/// absence.
fn single<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a str>, Refusal> {
    let mut values = headers.get_all(name).iter();
    let unclear =
        || (StatusCode::BAD_REQUEST, format!("the header {name} is not clear; send it once, in ASCII"));
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => value.to_str().map(Some).map_err(|_| unclear()),
        _ => Err(unclear()),
    }
}

impl Guard {
    /// Whether whoever asks has brought the token.
    ///
    /// # Errors
    /// The refusal.
    pub(super) fn check(&self, method: &Method, path: &str, headers: &HeaderMap) -> Result<bool, Refusal> {
        let host = single(headers, "host")?.unwrap_or_default();
        let Some(host) = HostPort::parse(host).filter(|h| self.is_ours(h)) else {
            return Err((
                StatusCode::FORBIDDEN,
                format!(
                    "the host {host:?} is not this session's; ask {}, or name the page's address with --control-origin",
                    self.addr
                ),
            ));
        };
        if let Some(origin) = single(headers, "origin")?
            && !Origin::parse(origin).is_some_and(|o| self.is_own_page(&o, &host))
        {
            return Err((
                StatusCode::FORBIDDEN,
                format!("pages of {origin} may not ask this session; name them with --control-origin"),
            ));
        }
        let changes = !matches!(*method, Method::GET | Method::HEAD);
        // A link in another page may lead to ours, which holds nothing secret and cannot be framed.
        let followed = !changes
            && is_for_everybody(path)
            && single(headers, "sec-fetch-mode")? == Some("navigate")
            && single(headers, "sec-fetch-dest")? == Some("document");
        let site = single(headers, "sec-fetch-site")?;
        if site.is_some_and(|s| s == "cross-site" || s == "same-site") && !followed {
            return Err((StatusCode::FORBIDDEN, "other sites' pages may not ask this session".into()));
        }
        // A form of another site cannot set this header without asking first, which is refused.
        if changes && single(headers, "x-polypscope")?.is_none() {
            return Err((StatusCode::FORBIDDEN, "changes need the header X-Polypscope: 1".into()));
        }
        let Some(token) = &self.access.token else { return Ok(false) };
        let given = single(headers, "authorization")?.and_then(|a| {
            let (scheme, given) = a.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then(|| given.trim())
        });
        if given.is_some_and(|g| token.is(g.as_bytes())) {
            return Ok(true);
        }
        // The figures show no patient: on loopback they are given to everybody, as the metrics' own address does.
        let figures = path == "/metrics" && !self.figures_only && self.addr.ip().is_loopback();
        if figures || (is_for_everybody(path) && !self.figures_only) {
            return Ok(false);
        }
        let words = if self.figures_only {
            "these figures need their token: Authorization: Bearer TOKEN"
        } else {
            "this session asks for its token: open the whole address that was printed at its start, or send \
             Authorization: Bearer TOKEN"
        };
        Err((StatusCode::UNAUTHORIZED, words.into()))
    }

    /// Whether a Host header names the address listened at, or the proxy's before it. Beyond loopback the token
    /// decides, since a machine has many names.
    fn is_ours(&self, host: &HostPort) -> bool {
        !self.addr.ip().is_loopback() || host.is_of(self.addr) || self.is_published(host)
    }

    fn is_published(&self, host: &HostPort) -> bool {
        self.access.origins.iter().any(|o| o.is_published_as(host))
    }

    /// Whether a page of this origin is ours: one that was allowed, or one that came from the host asked.
    fn is_own_page(&self, origin: &Origin, host: &HostPort) -> bool {
        // Behind a proxy the same host without TLS, or at another port, is somebody else.
        self.access.origins.contains(origin) || (origin.is_plain(host) && !self.is_published(host))
    }
}

/// The page and the reference hold nothing secret; the page asks for everything else with the token.
fn is_for_everybody(path: &str) -> bool {
    matches!(path, "/" | "/api")
}

#[cfg(test)]
mod tests {
    use super::super::Token;
    use super::*;

    fn guard(addr: &str, token: Option<&str>, origins: &[&str]) -> Guard {
        Guard {
            addr: addr.parse().expect("an address"),
            access: Access {
                token: token.map(|t| Token::new(t).expect("a token")),
                origins: origins.iter().map(|o| o.parse().expect("an origin")).collect(),
            },
            figures_only: false,
        }
    }

    fn ask(guard: &Guard, method: Method, path: &str, headers: &[(&'static str, &str)]) -> Option<u16> {
        let mut map = HeaderMap::new();
        for (k, v) in headers {
            map.append(*k, v.parse().expect("a header"));
        }
        guard.check(&method, path, &map).err().map(|(s, _)| s.as_u16())
    }

    #[test]
    fn other_hosts_origins_and_sites_are_refused() {
        let g = guard("127.0.0.1:7700", None, &[]);
        let host = ("host", "127.0.0.1:7700");
        assert_eq!(ask(&g, Method::GET, "/api/state", &[host]), None);
        assert_eq!(ask(&g, Method::GET, "/api/state", &[("host", "localhost:7700")]), None);
        assert_eq!(ask(&g, Method::GET, "/api/state", &[("host", "evil.example:7700")]), Some(403));
        assert_eq!(ask(&g, Method::GET, "/api/state", &[]), Some(403));
        assert_eq!(ask(&g, Method::GET, "/", &[host, ("origin", "http://evil.example")]), Some(403));
        assert_eq!(ask(&g, Method::GET, "/", &[host, ("origin", "null")]), Some(403));
        assert_eq!(ask(&g, Method::GET, "/", &[host, ("origin", "https://127.0.0.1:7700")]), Some(403));
        assert_eq!(ask(&g, Method::GET, "/", &[host, ("sec-fetch-site", "cross-site")]), Some(403));
        assert_eq!(ask(&g, Method::PUT, "/api/overlay", &[host]), Some(403));
        let own = [host, ("x-polypscope", "1"), ("origin", "http://127.0.0.1:7700")];
        assert_eq!(ask(&g, Method::PUT, "/api/overlay", &own), None);
    }

    #[test]
    fn headers_that_come_twice_or_cannot_be_read_are_refused() {
        let g = guard("127.0.0.1:7700", None, &[]);
        let host = ("host", "127.0.0.1:7700");
        assert_eq!(ask(&g, Method::GET, "/api/state", &[host, ("host", "evil.example:7700")]), Some(400));
        let both = [host, ("origin", "http://127.0.0.1:7700"), ("origin", "http://evil.example")];
        assert_eq!(ask(&g, Method::GET, "/api/state", &both), Some(400));
        let mut map = HeaderMap::new();
        map.insert("host", "127.0.0.1:7700".parse().expect("a header"));
        map.insert("origin", axum::http::HeaderValue::from_bytes(b"http://\xff").expect("a header"));
        assert_eq!(g.check(&Method::GET, "/api/state", &map).err().map(|r| r.0.as_u16()), Some(400));
    }

    #[test]
    fn a_link_to_the_page_may_be_followed_and_nothing_else() {
        let g = guard("127.0.0.1:7700", None, &[]);
        let link = |site| {
            [
                ("host", "127.0.0.1:7700"),
                ("sec-fetch-site", site),
                ("sec-fetch-mode", "navigate"),
                ("sec-fetch-dest", "document"),
            ]
        };
        assert_eq!(ask(&g, Method::GET, "/", &link("cross-site")), None);
        assert_eq!(ask(&g, Method::GET, "/api/snapshot.png", &link("cross-site")), Some(403));
        assert_eq!(ask(&g, Method::POST, "/", &link("same-site")), Some(403));
        let mut framed = link("cross-site");
        framed[3].1 = "iframe";
        assert_eq!(ask(&g, Method::GET, "/", &framed), Some(403));
    }

    const SECRET: &str = "0123456789abcdef";

    #[test]
    fn a_token_is_asked_for_wherever_the_patient_is_to_be_seen() {
        let bearer = format!("Bearer {SECRET}");
        for (addr, name) in [("10.0.0.5:7700", "suite3:7700"), ("127.0.0.1:7700", "localhost:7700")] {
            let g = guard(addr, Some(SECRET), &[]);
            let host = ("host", name);
            assert_eq!(ask(&g, Method::GET, "/", &[host]), None);
            assert_eq!(ask(&g, Method::GET, "/api", &[host]), None);
            for path in ["/api/state", "/api/figures", "/api/snapshot.png", "/API/STATE", "//", "/x", "/api/"]
            {
                assert_eq!(ask(&g, Method::GET, path, &[host]), Some(401), "{path}");
            }
            let change = [host, ("x-polypscope", "1")];
            assert_eq!(ask(&g, Method::PUT, "/api/overlay", &change), Some(401));
            for wrong in ["Bearer 0123456789abcdeF", "Bearer", "Bearer ", SECRET, "Basic 0123456789abcdef"] {
                let with = [host, ("authorization", wrong)];
                assert_eq!(ask(&g, Method::GET, "/api/state", &with), Some(401), "{wrong}");
            }
            assert_eq!(ask(&g, Method::GET, "/api/state", &[host, ("authorization", &bearer)]), None);
            let twice = [host, ("authorization", "Bearer x"), ("authorization", &bearer)];
            assert_eq!(ask(&g, Method::GET, "/api/state", &twice), Some(400));
        }
    }

    #[test]
    fn figures_are_open_on_loopback_and_where_they_stand_alone() {
        let at = |g: &Guard, host| ask(g, Method::GET, "/metrics", &[("host", host)]);
        assert_eq!(at(&guard("127.0.0.1:7700", Some(SECRET), &[]), "127.0.0.1:7700"), None);
        assert_eq!(at(&guard("10.0.0.5:7700", Some(SECRET), &[]), "suite3:7700"), Some(401));
        let alone = |token| Guard { figures_only: true, ..guard("0.0.0.0:9100", token, &[]) };
        assert_eq!(at(&alone(None), "suite3:9100"), None);
        assert_eq!(at(&alone(Some(SECRET)), "suite3:9100"), Some(401));
    }

    #[test]
    fn a_page_behind_a_proxy_may_ask_by_its_own_origin() {
        let g = guard("127.0.0.1:7700", None, &["https://Suite3:18443/", "https://[2001:db8::1]"]);
        let change = |host, origin| {
            ask(
                &g,
                Method::PUT,
                "/api/overlay",
                &[
                    ("host", host),
                    ("origin", origin),
                    ("x-polypscope", "1"),
                    ("sec-fetch-site", "same-origin"),
                ],
            )
        };
        // The proxy keeps the host, leaves its port out, or puts ours in its place.
        for host in ["suite3:18443", "SUITE3", "127.0.0.1:7700", "localhost:7700"] {
            assert_eq!(change(host, "https://suite3:18443"), None, "{host}");
        }
        assert_eq!(change("[2001:db8::1]", "https://[2001:DB8::1]"), None);
        assert_eq!(change("[2001:db8::1]:443", "https://[2001:db8:0::1]:443"), None);
        for (host, origin) in [
            ("suite3:18443", "https://suite3"),
            ("suite3:18443", "http://suite3:18443"),
            ("suite3", "http://suite3"),
            ("suite3:18443", "https://suite3.evil.example:18443"),
            ("suite3:18443", "null"),
            ("suite3:9", "https://suite3:18443"),
            ("suite4:18443", "https://suite3:18443"),
            ("evil.example", "https://suite3:18443"),
        ] {
            assert_eq!(change(host, origin), Some(403), "{host} {origin}");
        }
    }
}
