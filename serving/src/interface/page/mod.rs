//! A page that shows the running server. It is sent as one document, which loads nothing from elsewhere.

use axum::http::header;
use axum::response::{IntoResponse, Response};

const PAGE: &str = concat!(
    "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n",
    "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>Tempograph</title>\n<style>\n",
    include_str!("style.css"),
    "</style>\n</head>\n<body>\n",
    include_str!("index.html"),
    "<script>\n",
    include_str!("wire.js"),
    include_str!("show.js"),
    include_str!("chart.js"),
    include_str!("watch.js"),
    include_str!("explore.js"),
    include_str!("main.js"),
    "</script>\n</body>\n</html>\n",
);

/// The page may only send requests to its own server, and no other page may embed it.
const POLICY: &str = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// `GET /`.
pub(crate) async fn page() -> Response {
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-cache"),
    ];
    (headers, PAGE).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_names_no_other_place() {
        for wanting in ["http://", "https://", "src=\"", "@import", "url("] {
            assert!(!PAGE.contains(wanting), "the page has `{wanting}`");
        }
    }
}
