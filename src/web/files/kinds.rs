//! As what a file is given: its type by its name, and whether a browser may show it. Pure.
//!
//! Invariant: nothing that runs scripts, and no markup, is ever shown by a browser as a page of ours:
//! it is saved. What a file holds decides nothing, its name alone does, and `nosniff` keeps
//! browsers from thinking otherwise.

use crate::types::FileName;

/// Types by the end of names. Ours, because it is the list of what is harmless as well.
const KINDS: [(&str, &str); 49] = [
    ("7z", "application/x-7z-compressed"),
    ("aac", "audio/aac"),
    ("avi", "video/x-msvideo"),
    ("avif", "image/avif"),
    ("bmp", "image/bmp"),
    ("bz2", "application/x-bzip2"),
    ("css", "text/css; charset=utf-8"),
    ("csv", "text/csv; charset=utf-8"),
    ("doc", "application/msword"),
    ("docx", "application/vnd.openxmlformats-officedocument.wordprocessingml.document"),
    ("epub", "application/epub+zip"),
    ("flac", "audio/flac"),
    ("gif", "image/gif"),
    ("gz", "application/gzip"),
    ("heic", "image/heic"),
    ("htm", "text/html; charset=utf-8"),
    ("html", "text/html; charset=utf-8"),
    ("ico", "image/x-icon"),
    ("iso", "application/x-iso9660-image"),
    ("jpeg", "image/jpeg"),
    ("jpg", "image/jpeg"),
    ("js", "text/javascript; charset=utf-8"),
    ("json", "application/json"),
    ("log", "text/plain; charset=utf-8"),
    ("m4a", "audio/mp4"),
    ("md", "text/plain; charset=utf-8"),
    ("mkv", "video/x-matroska"),
    ("mov", "video/quicktime"),
    ("mp3", "audio/mpeg"),
    ("mp4", "video/mp4"),
    ("odt", "application/vnd.oasis.opendocument.text"),
    ("ogg", "audio/ogg"),
    ("ogv", "video/ogg"),
    ("opus", "audio/ogg"),
    ("pdf", "application/pdf"),
    ("png", "image/png"),
    ("svg", "image/svg+xml"),
    ("tar", "application/x-tar"),
    ("toml", "text/plain; charset=utf-8"),
    ("txt", "text/plain; charset=utf-8"),
    ("wav", "audio/wav"),
    ("webm", "video/webm"),
    ("webp", "image/webp"),
    ("xlsx", "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"),
    ("xml", "application/xml"),
    ("xz", "application/x-xz"),
    ("yaml", "text/plain; charset=utf-8"),
    ("zip", "application/zip"),
    ("zst", "application/zstd"),
];

/// The type of a file with this name.
pub(super) fn kind_of(name: &FileName) -> &'static str {
    let end = name.base().rsplit_once('.').map_or("", |(_, end)| end).to_ascii_lowercase();
    KINDS.iter().find(|(known, _)| *known == end).map_or("application/octet-stream", |(_, kind)| kind)
}

/// Whether a browser may show it.
pub(super) fn is_harmless(kind: &str) -> bool {
    let is_media = ["image/", "audio/", "video/"].iter().any(|family| kind.starts_with(family));
    (is_media && kind != "image/svg+xml") || kind.starts_with("text/plain") || kind == "application/pdf"
}

/// The `Content-Disposition` of a file: RFC 6266, its name plain where it can be, and always as RFC 8187.
pub(super) fn disposition(name: &FileName, inline: bool) -> String {
    let is_plain =
        |letter: char| letter.is_ascii_graphic() && !matches!(letter, '"' | '\\' | '%') || letter == ' ';
    let plain: String =
        name.base().chars().map(|letter| if is_plain(letter) { letter } else { '_' }).collect();
    let way = if inline { "inline" } else { "attachment" };
    format!("{way}; filename=\"{plain}\"; filename*=UTF-8''{}", encoded(name.base()))
}

/// Percent-encoded: what is left as it is stands for itself in a path and in a header.
pub(in crate::web) fn encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> FileName {
        FileName::parse(text).expect("a name")
    }

    #[test]
    fn what_could_run_is_never_shown() {
        for bad in ["a.html", "a.HTM", "a.svg", "a.xml", "a.js", "a.css", "a", "a.exe", "a.xhtml", ".pdf/x"] {
            assert!(!is_harmless(kind_of(&name(bad))), "{bad}");
        }
        for good in ["a.png", "b/a.JPG", "a.pdf", "a.txt", "a.mp4", "a.mp3", "a.html.txt"] {
            assert!(is_harmless(kind_of(&name(good))), "{good}");
        }
    }

    #[test]
    fn a_name_stays_within_its_quotes() {
        assert_eq!(
            disposition(&name("x/a b.txt"), false),
            "attachment; filename=\"a b.txt\"; filename*=UTF-8''a%20b.txt"
        );
        assert_eq!(
            disposition(&name("\"; filename=evil.exe; é%41"), true),
            "inline; filename=\"_; filename=evil.exe; __41\"; \
             filename*=UTF-8''%22%3B%20filename%3Devil.exe%3B%20%C3%A9%2541"
        );
    }

    #[test]
    fn the_table_is_in_order() {
        assert!(KINDS.windows(2).all(|two| two[0].0 < two[1].0));
    }
}
