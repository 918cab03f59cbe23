//! Bodies that are compressed on their way.

use std::io::{self, Read, Write};

use axum::http::{HeaderMap, header};
use flate2::Compression;
use flate2::read::{MultiGzDecoder, ZlibDecoder};
use flate2::write::{GzEncoder, ZlibEncoder};

use crate::access::error::{ApiError, ErrorKind};

/// How a body is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Coding {
    Gzip,
    Deflate,
}

impl Coding {
    pub fn name(self) -> &'static str {
        match self {
            Coding::Gzip => "gzip",
            Coding::Deflate => "deflate",
        }
    }

    fn of(name: &str) -> Option<Coding> {
        match name.trim().to_ascii_lowercase().as_str() {
            "gzip" | "x-gzip" => Some(Coding::Gzip),
            "deflate" => Some(Coding::Deflate),
            _ => None,
        }
    }

    /// The body of a request as it was before it was compressed.
    ///
    /// # Errors
    /// 413 if it has more than `most` bytes, however small it was on its way; 400 if it is damaged.
    pub fn expand(self, body: &[u8], most: usize) -> Result<Vec<u8>, ApiError> {
        let mut whole = Vec::new();
        // One byte more shows that it is too large.
        let most_read = (most as u64).saturating_add(1);
        let read = match self {
            Coding::Gzip => MultiGzDecoder::new(body).take(most_read).read_to_end(&mut whole),
            Coding::Deflate => ZlibDecoder::new(body).take(most_read).read_to_end(&mut whole),
        };
        let damaged = |error: io::Error| {
            ApiError::new(
                ErrorKind::Malformed,
                format!("the body is not what `content-encoding: {}` says: {error}", self.name()),
            )
        };
        read.map_err(damaged)?;
        if whole.len() > most { Err(ApiError::too_large(most)) } else { Ok(whole) }
    }

    /// # Errors
    /// Never in practice.
    pub fn compress(self, body: &[u8]) -> io::Result<Vec<u8>> {
        let fast = Compression::fast();
        match self {
            Coding::Gzip => {
                let mut encoder = GzEncoder::new(Vec::new(), fast);
                encoder.write_all(body)?;
                encoder.finish()
            }
            Coding::Deflate => {
                let mut encoder = ZlibEncoder::new(Vec::new(), fast);
                encoder.write_all(body)?;
                encoder.finish()
            }
        }
    }
}

/// How the body of a request is compressed; `None` where it is not.
///
/// # Errors
/// 415 naming the coding.
pub(crate) fn given_coding(headers: &HeaderMap) -> Result<Option<Coding>, ApiError> {
    let Some(value) = headers.get(header::CONTENT_ENCODING) else { return Ok(None) };
    let name = value.to_str().unwrap_or("no text");
    if name.trim().eq_ignore_ascii_case("identity") {
        return Ok(None);
    }
    Coding::of(name).map(Some).ok_or_else(|| {
        let fact = format!("the body is compressed as `{name}`; gzip and deflate are read");
        ApiError::new(ErrorKind::WrongMedia, fact)
    })
}

/// The first coding in the list of those that a client takes, if it takes one of ours.
pub(crate) fn accepted_coding(headers: &HeaderMap) -> Option<Coding> {
    let list = headers.get(header::ACCEPT_ENCODING)?.to_str().ok()?;
    list.split(',').find_map(|one| {
        let (name, weight) = one.split_once(';').unwrap_or((one, ""));
        let never =
            weight.trim().strip_prefix("q=").is_some_and(|weight| weight.parse::<f32>().is_ok_and(|q| q == 0.0));
        Coding::of(name).filter(|_| !never)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compressed_bodies_are_read_and_a_bomb_is_refused_by_its_decompressed_size() {
        for coding in [Coding::Gzip, Coding::Deflate] {
            let packed = coding.compress(&[7; 100_000]).unwrap();
            assert!(packed.len() < 1000);
            assert_eq!(coding.expand(&packed, 100_000).unwrap(), [7; 100_000]);
            assert_eq!(coding.expand(&packed, 99_999).unwrap_err().kind, ErrorKind::TooLarge);
            assert_eq!(coding.expand(&packed[..packed.len() / 2], 100_000).unwrap_err().kind, ErrorKind::Malformed);
            assert_eq!(coding.expand(b"plain", 100).unwrap_err().kind, ErrorKind::Malformed);
        }
    }

    #[test]
    fn codings_are_read_from_the_headers() {
        let headers = |name, value: &'static str| HeaderMap::from_iter([(name, value.parse().unwrap())]);
        for (value, coding) in [("gzip", Some(Coding::Gzip)), ("Deflate", Some(Coding::Deflate)), ("identity", None)] {
            assert_eq!(given_coding(&headers(header::CONTENT_ENCODING, value)).unwrap(), coding);
        }
        assert!(given_coding(&headers(header::CONTENT_ENCODING, "br")).unwrap_err().error.contains("`br`"));
        for (value, coding) in
            [("br, gzip;q=0.5", Some(Coding::Gzip)), ("gzip;q=0, deflate", Some(Coding::Deflate)), ("br", None)]
        {
            assert_eq!(accepted_coding(&headers(header::ACCEPT_ENCODING, value)), coding, "{value}");
        }
    }
}
