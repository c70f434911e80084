//! Requests that a session which knows the token answers with 200.

use super::targets::http::HOST;
use super::{Seed, seed};

pub fn requests() -> Vec<Seed> {
    let get = |path: &str, more: &str| {
        format!("GET {path} HTTP/1.1\r\nHost: {HOST}\r\n{more}Connection: close\r\n\r\n")
    };
    let change = |line: &str, body: &str| {
        format!(
            "{line} HTTP/1.1\r\nHost: {HOST}\r\nX-Polypscope: 1\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
             Connection: close\r\n\r\n{body}",
            body.len()
        )
    };
    let chunked = format!(
        "PUT /api/alpha HTTP/1.1\r\nHost: {HOST}\r\nX-Polypscope: 1\r\nContent-Type: application/json\r\n\
         Transfer-Encoding: chunked\r\n\r\n6\r\n{{\"valu\r\n8\r\ne\": 0.5}}\r\n0\r\n\r\n"
    );
    let link = "Sec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: document\r\n";
    let own = format!("Origin: https://{HOST}\r\nSec-Fetch-Site: same-origin\r\n");
    let open = "Accept: application/openmetrics-text;version=1.0.0,text/plain;q=0.5\r\n";
    let two = format!("GET /api HTTP/1.1\r\nHost: {HOST}\r\n\r\n{}", get("/metrics", ""));
    vec![
        seed("page", get("/", "")),
        seed("page-by-a-link", get("/", link)),
        seed("reference", get("/api", "")),
        seed("state", get("/api/state", "")),
        seed("state-of-the-page", get("/api/state", &own)),
        seed("figures", get("/api/figures", "")),
        seed("metrics", get("/metrics", "")),
        seed("open-metrics", get("/metrics", open)),
        seed("snapshot", get("/api/snapshot.png", "")),
        seed("two", two),
        seed("overlay", change("PUT /api/overlay", "{\"on\": true}")),
        seed("threshold", change("PUT /api/threshold", "{\"value\": 0.5}")),
        seed("alpha", change("PUT /api/alpha", "{\"value\": 1e-1}")),
        seed("alpha-in-pieces", chunked),
        seed("confirm", change("PUT /api/confirm", "{\"value\": \"balanced\"}")),
        seed("start", change("POST /api/recording", "")),
        seed("stop", change("DELETE /api/recording", "")),
    ]
}
