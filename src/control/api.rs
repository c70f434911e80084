//! The routes.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::rejection::JsonRejection;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};

use super::connections::Connection;
use super::request_guard::Guard;
use super::{Access, Routes, SessionControl};
use crate::json_path::JsonPath;
use crate::telemetry::collector::{Format, exposition};

const PAGE: &str = include_str!("page.html");
const REFERENCE: &str = include_str!("API.md");

/// Everything comes from this address; nothing is loaded from elsewhere.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; \
     img-src 'self' blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

type At = State<Arc<dyn SessionControl>>;

pub(super) fn router(
    addr: SocketAddr,
    access: Access,
    routes: Routes,
    session_control: Arc<dyn SessionControl>,
) -> Router {
    let guard = Arc::new(Guard { addr, access, figures_only: routes == Routes::Metrics });
    let mut router = Router::new().route("/metrics", get(metrics));
    if routes == Routes::All {
        router = router
            .route("/", get(page))
            .route(
                "/api",
                get(|| async { ([(header::CONTENT_TYPE, "text/markdown; charset=utf-8")], REFERENCE) }),
            )
            .route("/api/state", get(|State(d): At| async move { Json(d.status()) }))
            .route("/api/figures", get(|State(d): At| async move { Json((*d.figures()).clone()) }))
            .route("/api/overlay", put(overlay))
            .route("/api/threshold", put(threshold))
            .route("/api/alpha", put(alpha))
            .route("/api/confirm", put(confirm))
            .route("/api/recording", post(start_recording).delete(stop_recording))
            .route("/api/snapshot.png", get(snapshot));
    }
    router
        .fallback(|| async { sentence(StatusCode::NOT_FOUND, "there is nothing here; see /api") })
        .method_not_allowed_fallback(|| async {
            sentence(StatusCode::METHOD_NOT_ALLOWED, "this cannot be done here; see /api")
        })
        .with_state(session_control)
        .layer(DefaultBodyLimit::max(4096))
        .layer(middleware::from_fn(move |request: Request, next: Next| {
            let guard = guard.clone();
            async move {
                let checked = guard.check(request.method(), request.uri().path(), request.headers());
                let mut response = match checked {
                    Ok(known) => {
                        if known && let Some(guest) = request.extensions().get::<Arc<Connection>>() {
                            guest.recognised();
                        }
                        // A client that sends half a request is not waited for.
                        let answer =
                            tokio::time::timeout(std::time::Duration::from_secs(10), next.run(request));
                        answer.await.unwrap_or_else(|_| {
                            sentence(StatusCode::REQUEST_TIMEOUT, "the request took too long")
                        })
                    }
                    Err((status, words)) => sentence(status, &words),
                };
                let headers = response.headers_mut();
                for (name, value) in [
                    (header::CONTENT_SECURITY_POLICY, POLICY),
                    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
                    (header::CACHE_CONTROL, "no-store"),
                    (header::REFERRER_POLICY, "no-referrer"),
                ] {
                    headers.insert(name, HeaderValue::from_static(value));
                }
                response
            }
        }))
}

/// An error as one sentence in JSON.
fn sentence(status: StatusCode, words: &str) -> Response {
    (status, Json(json!({ "error": words }))).into_response()
}

/// What came of a change.
fn answer(result: crate::Result<Value>) -> Response {
    match result {
        Ok(value) => Json(value).into_response(),
        Err(e) => {
            let status = match e.kind() {
                crate::Kind::Usage | crate::Kind::Input => StatusCode::BAD_REQUEST,
                _ => StatusCode::INTERNAL_SERVER_ERROR,
            };
            sentence(status, &e.to_string())
        }
    }
}

async fn page() -> Response {
    ([(header::CONTENT_TYPE, "text/html; charset=utf-8")], PAGE).into_response()
}

async fn metrics(State(session_control): At, headers: HeaderMap) -> Response {
    let accepted = headers.get_all(header::ACCEPT).iter().filter_map(|v| v.to_str().ok());
    let format = Format::accepted(accepted);
    ([(header::CONTENT_TYPE, format.content_type())], exposition(&session_control.figures(), format))
        .into_response()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Switch {
    on: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Value64 {
    value: f64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Name {
    value: String,
}

/// A body, or why it cannot be read.
type Body<T> = Result<Json<T>, JsonRejection>;

fn unread(refusal: &JsonRejection) -> Response {
    sentence(refusal.status(), &refusal.body_text())
}

async fn overlay(State(session_control): At, body: Body<Switch>) -> Response {
    match body {
        Err(e) => unread(&e),
        Ok(Json(switch)) => {
            session_control.set_overlay(switch.on);
            answer(Ok(json!({ "overlay_on": switch.on })))
        }
    }
}

async fn threshold(State(session_control): At, body: Body<Value64>) -> Response {
    match body {
        Err(e) => unread(&e),
        Ok(Json(v)) => {
            answer(session_control.set_threshold(v.value).map(|()| json!({ "threshold": v.value })))
        }
    }
}

async fn alpha(State(session_control): At, body: Body<Value64>) -> Response {
    match body {
        Err(e) => unread(&e),
        Ok(Json(v)) => {
            answer(session_control.set_alpha(v.value as f32).map(|()| json!({ "alpha": v.value })))
        }
    }
}

async fn confirm(State(desk): At, body: Body<Name>) -> Response {
    match body {
        Err(e) => unread(&e),
        Ok(Json(v)) => answer(desk.set_confirm(&v.value).map(|()| json!({ "confirm": v.value }))),
    }
}

/// Runs what may take a while beside the listener.
async fn beside<T: Send + 'static>(
    session_control: Arc<dyn SessionControl>,
    work: impl FnOnce(&dyn SessionControl) -> crate::Result<T> + Send + 'static,
) -> crate::Result<T> {
    tokio::task::spawn_blocking(move || work(session_control.as_ref()))
        .await
        .unwrap_or_else(|_| Err(crate::Error::internal("the request failed").remedy("please report this")))
}

async fn start_recording(State(session_control): At) -> Response {
    let started = beside(session_control, |d| d.start_recording()).await;
    answer(started.map(|stem| json!({ "recording": JsonPath::from(stem) })))
}

async fn stop_recording(State(session_control): At) -> Response {
    answer(beside(session_control, |d| d.stop_recording()).await.map(|()| json!({ "recording": null })))
}

async fn snapshot(State(session_control): At) -> Response {
    match beside(session_control, |d| d.snapshot()).await {
        Ok(png) => ([(header::CONTENT_TYPE, "image/png")], png).into_response(),
        Err(e) => answer(Err(e)),
    }
}

#[cfg(test)]
mod tests {
    use super::PAGE;

    /// A proxy may publish the page below a path of its own.
    #[test]
    fn the_page_asks_relative_to_itself_and_loads_nothing_else() {
        for absolute in ["\"/api", "'/api", "`/api", "http:", "https:", "src=\"", "href=\"", "url("] {
            assert!(!PAGE.contains(absolute), "{absolute} is on the page");
        }
        assert_eq!(PAGE.matches("fetch(").count(), 1, "everything is asked for in one place");
        assert!(PAGE.contains("fetch(base + path"));
    }
}
