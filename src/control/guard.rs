//! Who may ask.
//!
//! In: a request's headers. Out: let through, or refused with a sentence.

use std::net::SocketAddr;

use axum::http::{HeaderMap, Method, StatusCode};

/// What requests are held against.
#[derive(Clone, Debug)]
pub(super) struct Guard {
    pub addr: SocketAddr,
    pub token: Option<String>,
}

/// Compares without telling by the time it takes how much is right.
fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |acc, (x, y)| acc | (x ^ y)) == 0
}

impl Guard {
    /// # Errors
    /// Status and sentence of the refusal.
    pub(super) fn check(
        &self,
        method: &Method,
        path: &str,
        headers: &HeaderMap,
    ) -> Result<(), (StatusCode, String)> {
        let text = |name: &str| headers.get(name).and_then(|v| v.to_str().ok());
        let host = text("host").unwrap_or_default();
        if !self.is_ours(host) {
            return Err((
                StatusCode::FORBIDDEN,
                format!("the host {host:?} is not this session's; ask {}", self.addr),
            ));
        }
        if let Some(origin) = text("origin") {
            let ours = origin.strip_prefix("http://").is_some_and(|h| h == host);
            if !ours {
                return Err((StatusCode::FORBIDDEN, format!("pages of {origin} may not ask this session")));
            }
        }
        if text("sec-fetch-site").is_some_and(|s| s == "cross-site" || s == "same-site") {
            return Err((StatusCode::FORBIDDEN, "other sites' pages may not ask this session".into()));
        }
        // A form of another site cannot set this header without asking first, which is refused.
        let changes = !matches!(*method, Method::GET | Method::HEAD);
        if changes && text("x-polypscope").is_none() {
            return Err((StatusCode::FORBIDDEN, "changes need the header X-Polypscope: 1".into()));
        }
        // The page itself holds nothing secret; it asks for everything with the token.
        if let Some(token) = &self.token
            && path != "/"
        {
            let given = text("authorization").and_then(|a| a.strip_prefix("Bearer ")).unwrap_or_default();
            if !same(given.as_bytes(), token.as_bytes()) {
                return Err((
                    StatusCode::UNAUTHORIZED,
                    "this session asks for its token: Authorization: Bearer …".into(),
                ));
            }
        }
        Ok(())
    }

    /// Whether a Host header names the address listened at. Beyond loopback the token decides, since a machine has many
    /// names.
    fn is_ours(&self, host: &str) -> bool {
        if !self.addr.ip().is_loopback() {
            return !host.is_empty();
        }
        let port = self.addr.port();
        let names =
            [format!("{}:{port}", self.addr.ip()), format!("localhost:{port}"), self.addr.to_string()];
        names.iter().any(|n| n == host)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(guard: &Guard, method: Method, path: &str, headers: &[(&'static str, &str)]) -> Option<u16> {
        let mut map = HeaderMap::new();
        for (k, v) in headers {
            map.insert(*k, v.parse().expect("a header"));
        }
        guard.check(&method, path, &map).err().map(|(s, _)| s.as_u16())
    }

    #[test]
    fn other_hosts_origins_and_sites_are_refused() {
        let g = Guard { addr: "127.0.0.1:7700".parse().expect("an address"), token: None };
        let host = ("host", "127.0.0.1:7700");
        assert_eq!(ask(&g, Method::GET, "/api/state", &[host]), None);
        assert_eq!(ask(&g, Method::GET, "/api/state", &[("host", "localhost:7700")]), None);
        assert_eq!(ask(&g, Method::GET, "/api/state", &[("host", "evil.example:7700")]), Some(403));
        assert_eq!(ask(&g, Method::GET, "/api/state", &[]), Some(403));
        assert_eq!(ask(&g, Method::GET, "/", &[host, ("origin", "http://evil.example")]), Some(403));
        assert_eq!(ask(&g, Method::GET, "/", &[host, ("sec-fetch-site", "cross-site")]), Some(403));
        assert_eq!(ask(&g, Method::PUT, "/api/overlay", &[host]), Some(403));
        let own = [host, ("x-polypscope", "1"), ("origin", "http://127.0.0.1:7700")];
        assert_eq!(ask(&g, Method::PUT, "/api/overlay", &own), None);
    }

    #[test]
    fn a_token_is_asked_for_everywhere_but_for_the_page() {
        let g = Guard { addr: "10.0.0.5:7700".parse().expect("an address"), token: Some("secret".into()) };
        let host = ("host", "suite3:7700");
        assert_eq!(ask(&g, Method::GET, "/", &[host]), None);
        assert_eq!(ask(&g, Method::GET, "/api/state", &[host]), Some(401));
        assert_eq!(
            ask(&g, Method::GET, "/api/state", &[host, ("authorization", "Bearer secreT")]),
            Some(401)
        );
        assert_eq!(ask(&g, Method::GET, "/api/state", &[host, ("authorization", "Bearer secret")]), None);
    }
}
