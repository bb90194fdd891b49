//! Content codings: which of them a client takes, and bodies in them (RFC 9110, sections 8.4 and 12.5.3).

use std::io::Write as _;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::HeaderValue;
use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, HeaderMap};

use super::request::clauses;

/// From this size on a body is compressed where the client takes it, in bytes: smaller ones are one packet anyway.
pub const COMPRESS_FROM: usize = 1400;
/// How hard brotli tries, of 11: it is then about as quick as gzip, and its answers are smaller.
const BROTLI_QUALITY: u32 = 4;
/// How far back brotli looks, as a power of two.
const BROTLI_WINDOW: u32 = 20;
/// How many bytes brotli's writer hands on at a time.
const BROTLI_BUFFER: usize = 16 * 1024;

/// How a body is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Coding {
    /// RFC 1952.
    Gzip,
    /// RFC 7932.
    Brotli,
}

impl Coding {
    /// All of them, the one that is liked best last.
    pub const ALL: [Self; 2] = [Self::Gzip, Self::Brotli];

    /// Its name in headers.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Brotli => "br",
        }
    }

    /// The one that a client likes best; none where it takes none of them.
    #[must_use]
    pub fn accepted(headers: &HeaderMap) -> Option<Self> {
        let mut named = [None; Self::ALL.len()];
        let mut others = 0;
        for (name, quality) in clauses(headers, ACCEPT_ENCODING) {
            match name {
                "gzip" | "x-gzip" => named[Self::Gzip as usize] = Some(quality),
                "br" => named[Self::Brotli as usize] = Some(quality),
                "*" => others = quality,
                _ => {}
            }
        }
        let liked = Self::ALL.map(|coding| (coding, named[coding as usize].unwrap_or(others)));
        // Of equals the last.
        let best = liked.into_iter().filter(|(_, quality)| *quality > 0).max_by_key(|(_, quality)| *quality);
        best.map(|(coding, _)| coding)
    }

    /// The body in this coding; none where it grows by it.
    #[must_use]
    pub fn encode(self, body: &[u8]) -> Option<Bytes> {
        let room = Vec::with_capacity(body.len() / 4);
        let packed = match self {
            Self::Gzip => {
                let mut encoder = GzEncoder::new(room, Compression::fast());
                encoder.write_all(body).ok()?;
                encoder.finish().ok()?
            }
            Self::Brotli => {
                let mut encoder = brotli::CompressorWriter::new(room, BROTLI_BUFFER, BROTLI_QUALITY, BROTLI_WINDOW);
                encoder.write_all(body).ok()?;
                encoder.into_inner()
            }
        };
        (packed.len() < body.len()).then(|| packed.into())
    }

    /// Says that a body is in this coding.
    pub fn tell(self, headers: &mut HeaderMap) {
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static(self.name()));
    }

    /// The entity tag of a body in this coding, of that of the body itself: there is one strong tag a form.
    #[must_use]
    pub fn tag(self, etag: &str) -> String {
        format!("{}-{}\"", etag.trim_end_matches('"'), self.name())
    }
}

/// Whether `tag`, as a client sent it, names the body with the tag `etag`, in whatever coding.
#[must_use]
pub fn is_tag(tag: &str, etag: &str) -> bool {
    let tag = tag.strip_prefix("W/").unwrap_or(tag);
    tag == etag || Coding::ALL.iter().any(|coding| coding.tag(etag) == tag)
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    #[test]
    fn the_coding_is_the_one_that_the_client_likes_best() {
        let accepted = |value: &'static str| {
            Coding::accepted(&HeaderMap::from_iter([(ACCEPT_ENCODING, HeaderValue::from_static(value))]))
        };
        for (value, coding) in [
            ("gzip", Some(Coding::Gzip)),
            ("x-gzip", Some(Coding::Gzip)),
            ("gzip, deflate, br, zstd", Some(Coding::Brotli)),
            ("br;q=0.4, gzip;q=0.5", Some(Coding::Gzip)),
            ("br; q=0, *", Some(Coding::Gzip)),
            ("*", Some(Coding::Brotli)),
            ("gzip;q=0", None),
            ("gzip;q=often", None),
            ("identity", None),
            ("", None),
        ] {
            assert_eq!(accepted(value), coding, "{value}");
        }
        assert_eq!(Coding::accepted(&HeaderMap::new()), None);
    }

    #[test]
    fn a_body_comes_back_out_of_each_coding_and_is_left_alone_where_it_would_grow() {
        let body = "a body that repeats itself. ".repeat(100);
        let mut back = String::new();
        let gzip = Coding::Gzip.encode(body.as_bytes()).unwrap();
        flate2::read::GzDecoder::new(&gzip[..]).read_to_string(&mut back).unwrap();
        assert_eq!(back, body);
        back.clear();
        let brotli = Coding::Brotli.encode(body.as_bytes()).unwrap();
        brotli::Decompressor::new(&brotli[..], 4096).read_to_string(&mut back).unwrap();
        assert_eq!(back, body);
        assert!(gzip.len() < body.len() / 10 && brotli.len() < body.len() / 10);
        for coding in Coding::ALL {
            assert_eq!(coding.encode(b"x"), None);
        }
    }

    #[test]
    fn a_tag_names_its_body_in_each_coding() {
        for (tag, is) in [
            ("\"a\"", true),
            ("W/\"a\"", true),
            ("\"a-gzip\"", true),
            ("\"a-br\"", true),
            ("W/\"a-br\"", true),
            ("\"b\"", false),
            ("a", false),
            ("\"a-zstd\"", false),
            ("", false),
        ] {
            assert_eq!(is_tag(tag, "\"a\""), is, "{tag}");
        }
    }
}
