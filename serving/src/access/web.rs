//! What web pages may do. A browser sends requests for any page that its user looks at, also to servers that only this
//! machine or this network can reach. So the server checks what browsers add to requests: `Host` and `Origin`.

use std::net::IpAddr;

use axum::http::{HeaderMap, HeaderValue, Uri, header};
use serde::{Deserialize, Serialize};

use crate::access::error::{ApiError, ErrorKind};

/// The section `web` of a server's settings.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WebSpec {
    /// Names by which clients reach this server, without a port; `.example.com` is a name and all names below it, `*`
    /// any name. Left out, `localhost` and names without a dot; any name where every caller needs a token. Addresses
    /// are always allowed, since nobody else can have a page under one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hosts: Option<Vec<String>>,
    /// Origins of other servers' pages that may send requests, such as `https://ops.example.com`; `*` for all.
    pub origins: Vec<String>,
}

impl WebSpec {
    /// # Errors
    /// A sentence naming the key and its value.
    pub(crate) fn check(&self) -> Result<(), String> {
        for (i, host) in self.hosts.iter().flatten().enumerate() {
            let bare = host.strip_prefix('.').unwrap_or(host);
            let name = |c: char| c.is_alphanumeric() || "-._".contains(c);
            let known = host == "*" || address(host).is_some() || !bare.is_empty() && bare.chars().all(name);
            if !known {
                return Err(format!(
                    "web.hosts[{i}] = \"{host}\"; it is a name without scheme and port, such as \"example.com\", \
                     \".example.com\" with all names below it, or \"*\""
                ));
            }
        }
        for (i, origin) in self.origins.iter().enumerate() {
            let host = origin.strip_prefix("https://").or_else(|| origin.strip_prefix("http://"));
            let whole = host.is_some_and(|host| !host.is_empty() && !host.contains(['/', '*', ' ', '?', '#', '@']));
            if origin != "*" && !whole {
                return Err(format!(
                    "web.origins[{i}] = \"{origin}\"; it is a scheme, a name and perhaps a port, such as \
                     \"https://ops.example.com\", or \"*\""
                ));
            }
        }
        Ok(())
    }
}

/// Checks hosts and origins of requests.
#[derive(Clone, Debug)]
pub(crate) struct WebGuard {
    spec: WebSpec,
    /// Whether someone without a token may do something.
    open: bool,
}

impl WebGuard {
    pub fn new(spec: &WebSpec, open: bool) -> WebGuard {
        WebGuard { spec: spec.clone(), open }
    }

    /// Whether a request may come from where it comes. Returns its origin, if that is another server's and allowed.
    ///
    /// # Errors
    /// 403 naming the host or the origin, and the setting that would allow it.
    pub fn check(&self, headers: &HeaderMap, uri: &Uri) -> Result<Option<HeaderValue>, ApiError> {
        let mut hosts = Vec::new();
        for value in headers.get_all(header::HOST) {
            hosts.push(value.to_str().map_err(|_| wrong_host("that is not text"))?);
        }
        // HTTP/2 has the host in its target, and so has HTTP/1.1 in requests to proxies.
        hosts.extend(uri.authority().map(axum::http::uri::Authority::as_str));
        if let Some(host) = hosts.iter().find(|host| !self.takes_host(host)) {
            return Err(wrong_host(&format!("`{}`", shortened(host))));
        }
        let mut other = None;
        for origin in headers.get_all(header::ORIGIN) {
            let own = origin.to_str().ok().filter(|text| hosts.iter().any(|host| same_place(text, host)));
            if own.is_none() {
                self.check_origin(origin)?;
                other = Some(origin.clone());
            }
        }
        Ok(other)
    }

    fn takes_host(&self, host: &str) -> bool {
        let name = name_of(host);
        // Probes and what scrapes metrics know the server's address alone.
        if address(host).is_some() {
            return true;
        }
        let Some(allowed) = &self.spec.hosts else {
            // No public name is without a dot, so nobody can let such a name lead here.
            return !self.open || !name.contains('.') || name.ends_with(".localhost");
        };
        allowed.iter().any(|known| match known.strip_prefix('.') {
            _ if known == "*" => true,
            Some(parent) => {
                let parent = parent.to_ascii_lowercase();
                name == parent || name.strip_suffix(&parent).is_some_and(|rest| rest.ends_with('.'))
            }
            None => name == known.to_ascii_lowercase(),
        })
    }

    fn check_origin(&self, origin: &HeaderValue) -> Result<(), ApiError> {
        let text = origin.to_str().unwrap_or("that is not text");
        if self.spec.origins.iter().any(|known| known == "*" || known.eq_ignore_ascii_case(text)) {
            return Ok(());
        }
        Err(ApiError::new(
            ErrorKind::WrongOrigin,
            format!(
                "a page of `{}` sent this request, and pages of other servers may not; the setting web.origins allows \
                 them",
                shortened(text)
            ),
        ))
    }
}

fn wrong_host(host: &str) -> ApiError {
    ApiError::new(
        ErrorKind::WrongHost,
        format!(
            "the request is for the host {host}, which is not a name of this server; the setting web.hosts adds it"
        ),
    )
}

/// The headers that let a page of an allowed origin read an answer.
pub(crate) fn allow_reading(headers: &mut HeaderMap, origin: HeaderValue) {
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static("retry-after"));
    headers.append(header::VARY, HeaderValue::from_static("origin"));
}

/// The headers that answer a browser which asks what a page of an allowed origin may send.
pub(crate) fn allow_sending(headers: &mut HeaderMap) {
    headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, POST"));
    let sent = "authorization, content-type, deadline-ms, tenant, inference-header-content-length";
    headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static(sent));
    headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
}

/// The name of a host, without its port and in lower case.
fn name_of(host: &str) -> String {
    let digits = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit());
    let name = host.rsplit_once(':').filter(|(_, port)| digits(port)).map_or(host, |(name, _)| name);
    name.trim_end_matches('.').to_ascii_lowercase()
}

/// The address that a host is, if it is one.
fn address(host: &str) -> Option<IpAddr> {
    let bare = |text: &str| text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text).parse().ok();
    bare(host).or_else(|| bare(&name_of(host)))
}

/// Whether an origin is the server that a request is for. The scheme is not compared: a proxy may have ended TLS.
fn same_place(origin: &str, host: &str) -> bool {
    let Some((scheme, place)) = origin.split_once("://") else { return false };
    let standard = if scheme == "https" { ":443" } else { ":80" };
    let plain = |place: &str| place.strip_suffix(standard).unwrap_or(place).to_ascii_lowercase();
    plain(place) == plain(host)
}

fn shortened(text: &str) -> String {
    text.chars().take(100).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guard(hosts: Option<&[&str]>, origins: &[&str], open: bool) -> WebGuard {
        let list = |list: &[&str]| list.iter().map(|one| one.to_string()).collect::<Vec<_>>();
        let spec = WebSpec { hosts: hosts.map(list), origins: list(origins) };
        spec.check().unwrap();
        WebGuard::new(&spec, open)
    }

    fn ask(guard: &WebGuard, host: &str, origin: Option<&str>) -> Result<Option<HeaderValue>, ErrorKind> {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, host.parse().unwrap());
        if let Some(origin) = origin {
            headers.insert(header::ORIGIN, origin.parse().unwrap());
        }
        guard.check(&headers, &Uri::from_static("/v1/events")).map_err(|refused| refused.kind)
    }

    #[test]
    fn an_open_server_answers_addresses_and_names_that_nobody_can_register() {
        let own = guard(None, &[], true);
        for host in [
            "localhost",
            "LocalHost:8080",
            "127.0.0.1:8080",
            "[::1]:8080",
            "[fe80::1]",
            "10.0.0.7",
            "tempograph:80",
            "a.localhost",
            "localhost.",
        ] {
            assert_eq!(ask(&own, host, None), Ok(None), "{host}");
        }
        for host in [
            "rebind.evil.example",
            "rebind.evil.example:8080",
            "evil.example.",
            "127.0.0.1.evil.example",
            "localhost.evil.example",
            "1.2.3.4.5",
        ] {
            assert_eq!(ask(&own, host, None), Err(ErrorKind::WrongHost), "{host}");
        }
        // Where every caller needs a token, a page has none to send.
        assert_eq!(ask(&guard(None, &[], false), "api.example.com", None), Ok(None));
    }

    #[test]
    fn named_hosts_are_the_only_ones() {
        let named = guard(Some(&["api.example.com", ".corp.example", "10.0.0.7"]), &[], false);
        for host in ["api.example.com", "API.example.com:443", "corp.example", "a.b.corp.example:1", "10.0.0.7:8080"] {
            assert_eq!(ask(&named, host, None), Ok(None), "{host}");
        }
        for host in ["example.com", "x.api.example.com", "evilcorp.example", "localhost", "10.0.0.8.example"] {
            assert_eq!(ask(&named, host, None), Err(ErrorKind::WrongHost), "{host}");
        }
        // A probe knows an address and no name.
        for host in ["10.0.0.8:8080", "[fe80::1]:9090"] {
            assert_eq!(ask(&named, host, None), Ok(None), "{host}");
        }
        assert_eq!(ask(&guard(Some(&["*"]), &[], true), "any.example", None), Ok(None));
        // HTTP/2 has the host in its target.
        let uri = Uri::from_static("http://evil.example/v1/events");
        assert_eq!(named.check(&HeaderMap::new(), &uri).unwrap_err().kind, ErrorKind::WrongHost);
        let mut twice = HeaderMap::new();
        twice.append(header::HOST, HeaderValue::from_static("api.example.com"));
        twice.append(header::HOST, HeaderValue::from_static("evil.example"));
        assert_eq!(named.check(&twice, &Uri::from_static("/")).unwrap_err().kind, ErrorKind::WrongHost);
    }

    #[test]
    fn pages_of_other_origins_are_refused_unless_they_are_named() {
        let own = guard(None, &["https://ops.example.com"], true);
        for (host, origin) in [
            ("localhost:8080", "http://localhost:8080"),
            ("localhost:8080", "https://LOCALHOST:8080"),
            ("10.0.0.7", "http://10.0.0.7"),
            ("10.0.0.7", "http://10.0.0.7:80"),
            ("[::1]:8080", "http://[::1]:8080"),
        ] {
            assert_eq!(ask(&own, host, Some(origin)), Ok(None), "{origin}");
        }
        for origin in [
            "null",
            "http://evil.example",
            "http://localhost:9090",
            "http://localhost",
            "https://ops.example.com:8443",
            "file://",
            "",
        ] {
            assert_eq!(ask(&own, "localhost:8080", Some(origin)), Err(ErrorKind::WrongOrigin), "{origin}");
        }
        let named = ask(&own, "localhost:8080", Some("https://ops.example.com")).unwrap();
        assert_eq!(named.unwrap(), "https://ops.example.com");
        assert!(ask(&guard(None, &["*"], true), "localhost", Some("null")).unwrap().is_some());
    }

    #[test]
    fn settings_that_name_no_host_or_origin_are_refused() {
        for host in ["http://example.com", "example.com/", "", ".", "a b"] {
            let spec = WebSpec { hosts: Some(vec![host.into()]), origins: vec![] };
            assert!(spec.check().unwrap_err().contains(&format!("web.hosts[0] = \"{host}\"")));
        }
        for origin in ["example.com", "https://", "https://example.com/", "https://*.example.com", "null"] {
            let spec = WebSpec { hosts: None, origins: vec![origin.into()] };
            assert!(spec.check().unwrap_err().contains(&format!("web.origins[0] = \"{origin}\"")));
        }
    }
}
