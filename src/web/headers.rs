//! Headers as text. Pure.
//!
//! Invariant: a header that says one thing comes once; of two values none is taken for the right one.

use super::refusal::Refusal;
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};

/// The value of a header that may come once at most.
fn once<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a HeaderValue>, Refusal> {
    let mut values = headers.get_all(name).iter();
    let first = values.next();
    if values.next().is_some() {
        return Err(Refusal::invalid(format!("there are two {name} headers")));
    }
    Ok(first)
}

/// The same as UTF-8 text: what people name.
pub(super) fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, Refusal> {
    let text = once(headers, name)?.map(|value| std::str::from_utf8(value.as_bytes()).map(str::trim));
    text.transpose().map_err(|_| Refusal::invalid(format!("the {name} header is no UTF-8 text")))
}

/// The same as ASCII that can be seen: what protocols define.
pub(super) fn plain<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, Refusal> {
    let text = once(headers, name)?.map(|value| value.to_str().map(str::trim));
    text.transpose().map_err(|_| Refusal::invalid(format!("the {name} header is no plain text")))
}

/// All values of a header that is a list; what is no plain text is left out.
pub(super) fn joined(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    let values: Vec<&str> = headers.get_all(name).iter().filter_map(|value| value.to_str().ok()).collect();
    (!values.is_empty()).then(|| values.join(","))
}

/// The type of a body without its parameters, in lower case; empty if nothing is said.
pub(super) fn body_type(headers: &HeaderMap) -> Result<String, Refusal> {
    let said = plain(headers, &header::CONTENT_TYPE)?.unwrap_or_default();
    Ok(said.split(';').next().unwrap_or_default().trim().to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_twice_or_is_no_text_is_refused() {
        let mut headers = HeaderMap::new();
        let name = header::CONTENT_TYPE;
        assert_eq!(
            (plain(&headers, &name).ok(), body_type(&headers).as_deref().ok()),
            (Some(None), Some(""))
        );
        headers.append(&name, HeaderValue::from_static("Application/JSON ; charset=utf-8"));
        assert_eq!(body_type(&headers).as_deref().ok(), Some("application/json"));
        headers.append(&name, HeaderValue::from_static("text/plain"));
        assert!(plain(&headers, &name).is_err() && text(&headers, &name).is_err());
        assert_eq!(joined(&headers, &name).as_deref(), Some("Application/JSON ; charset=utf-8,text/plain"));
        for (bytes, is_text) in [("\u{e9}".as_bytes(), true), (b"\xff", false)] {
            headers.insert(&name, HeaderValue::from_bytes(bytes).expect("a value"));
            assert_eq!((text(&headers, &name).is_ok(), plain(&headers, &name).is_ok()), (is_text, false));
        }
    }
}
