//! What is not done, and why: a status, a word for programs, a sentence for people. Pure.

use crate::client::ClientError;
use crate::documents::{ErrorBody, ErrorDocument, chain};
use crate::wire::message::ErrorCode;
use axum::body::Body;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

/// Why a request is not answered as asked.
#[derive(Clone, Debug)]
pub struct Refusal {
    /// The HTTP status.
    pub status: StatusCode,
    /// For programs.
    pub code: &'static str,
    /// What failed and why.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
    /// Apart, so that a result that may be one stays small.
    headers: Box<HeaderMap>,
}

impl Refusal {
    /// A refusal with this status and word.
    pub fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Refusal {
        Refusal { status, code, message: message.into(), hint: None, headers: Box::default() }
    }

    /// 400.
    pub fn invalid(message: impl Into<String>) -> Refusal {
        Refusal::new(StatusCode::BAD_REQUEST, "invalid", message)
    }

    /// 404.
    pub fn not_found(message: impl Into<String>) -> Refusal {
        Refusal::new(StatusCode::NOT_FOUND, "not_found", message)
    }

    /// 413.
    pub fn too_large(message: impl Into<String>) -> Refusal {
        Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", message)
    }

    /// 503: there is no proxy now.
    pub fn no_proxy(message: impl Into<String>) -> Refusal {
        Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "no_proxy", message)
            .hint("try again in a second; `thorp status` shows which machines are up")
            .header(header::RETRY_AFTER, "1")
    }

    /// 500: what should never be.
    pub fn internal(message: impl Into<String>) -> Refusal {
        Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", message)
    }

    /// Adds what to do.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Refusal {
        self.hint = Some(hint.into());
        self
    }

    /// Adds a header to the answer; one whose value cannot stand in a header is left out.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: impl AsRef<str>) -> Refusal {
        if let Ok(value) = HeaderValue::from_str(value.as_ref()) {
            self.headers.insert(name, value);
        }
        self
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let error = ErrorBody { code: self.code, message: &self.message, hint: self.hint.as_deref() };
        let mut response = json(self.status, &ErrorDocument { error });
        response.headers_mut().extend(*self.headers);
        response
    }
}

/// A JSON document as an answer.
pub fn json(status: StatusCode, document: &impl serde::Serialize) -> Response {
    let (status, text) = match serde_json::to_vec(document) {
        Ok(text) => (status, text),
        Err(_) => (StatusCode::INTERNAL_SERVER_ERROR, Vec::new()),
    };
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

impl From<ClientError> for Refusal {
    fn from(error: ClientError) -> Refusal {
        match error {
            ClientError::Refused { code, message } => refused(code, message),
            ClientError::NoProxy { .. } | ClientError::Connection(_) | ClientError::Socket(_) => {
                Refusal::no_proxy(chain(&error))
            }
            ClientError::Unknown => unknown(error.to_string()),
            ClientError::Get { .. } => {
                Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", chain(&error))
                    .hint("`thorp why NAME` shows who holds it")
            }
            error => Refusal::internal(chain(&error)),
        }
    }
}

fn refused(code: ErrorCode, message: String) -> Refusal {
    let (status, word) = match code {
        ErrorCode::NotFound => (StatusCode::NOT_FOUND, "not_found"),
        ErrorCode::NotReady => {
            return Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "not_ready", message)
                .hint("the proxy is new and has not heard from every machine yet; try again in some seconds")
                .header(header::RETRY_AFTER, "1");
        }
        ErrorCode::NameTaken => (StatusCode::CONFLICT, "name_taken"),
        ErrorCode::NoStorage => (StatusCode::SERVICE_UNAVAILABLE, "no_storage"),
        ErrorCode::NoSpace => (StatusCode::INSUFFICIENT_STORAGE, "no_space"),
        ErrorCode::Invalid => (StatusCode::BAD_REQUEST, "invalid"),
        ErrorCode::Denied => (StatusCode::FORBIDDEN, "not_allowed"),
        ErrorCode::Disk => (StatusCode::SERVICE_UNAVAILABLE, "disk"),
        ErrorCode::Connection => (StatusCode::SERVICE_UNAVAILABLE, "connection"),
        ErrorCode::Unknown => return unknown(message),
    };
    Refusal::new(status, word, message)
}

fn unknown(message: String) -> Refusal {
    Refusal::new(StatusCode::GATEWAY_TIMEOUT, "unknown_outcome", message)
        .hint("it may or may not have happened: look before you ask again")
}
