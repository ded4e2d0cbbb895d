//! What a server says to a request.

use std::fmt;

use http::header::HeaderName;
use http::{StatusCode, header};
use log::Level;

use crate::http1::{Header, Headers};
use crate::sync::Repeats;

/// Each client has the program make an answer.
static REPEATS: Repeats = Repeats::new();

/// What a server says to an HTTP request: an upgrade to a WebSocket, or something else.
///
/// Its `Debug` shows the names of the headers, never their values, and how long the body is.
///
/// ```
/// use everlink::Answer;
///
/// let upgrade = Answer::accept().subprotocol("v1.chat");
/// let denied = Answer::reject(everlink::http::StatusCode::UNAUTHORIZED);
/// let page = Answer::page("text/html; charset=utf-8", "<h1>hello</h1>");
/// # let _ = (upgrade, denied, page);
/// ```
#[derive(Clone)]
#[must_use]
pub struct Answer {
    pub(super) status: StatusCode,
    pub(super) subprotocol: Option<String>,
    pub(super) headers: Headers,
    pub(super) body: Vec<u8>,
    /// What the session is to know.
    pub(super) values: http::Extensions,
}

impl Answer {
    /// Upgrades the connection, if the request asks for a WebSocket properly; otherwise the
    /// client is told what is wrong with it.
    pub fn accept() -> Self {
        Self::new(StatusCode::SWITCHING_PROTOCOLS)
    }

    /// Refuses with this status. 101 is no refusal: it is taken as [`accept`](Self::accept). The
    /// other statuses below 200 are no answer at all (RFC 9110 section 15.2): they are logged, and
    /// the client is told 500.
    pub fn reject(status: StatusCode) -> Self {
        if status.is_informational() && status != StatusCode::SWITCHING_PROTOCOLS {
            let line = format!("{status} cannot be the answer to a request");
            REPEATS.say("everlink", Level::Error, ("unusable_answer", "status"), line);
            return Self::new(StatusCode::INTERNAL_SERVER_ERROR);
        }
        Self::new(status)
    }

    /// Answers a plain request with a page (status 200).
    pub fn page(content_type: &str, body: impl Into<Vec<u8>>) -> Self {
        Self::new(StatusCode::OK).header(header::CONTENT_TYPE.as_str(), content_type).body(body)
    }

    /// Gives this along to the session: [`Session::get`](crate::Session::get) of the same type has it.
    /// One value of each type; with a refusal it has no use.
    ///
    /// ```
    /// use everlink::Answer;
    ///
    /// #[derive(Clone)]
    /// struct User(String);
    ///
    /// let answer = Answer::accept().with(User("ada".into()));
    /// // and in the handler: session.get::<User>()
    /// # let _ = answer;
    /// ```
    pub fn with<T: Clone + Send + Sync + 'static>(mut self, value: T) -> Self {
        self.values.insert(value);
        self
    }

    fn new(status: StatusCode) -> Self {
        Self {
            status,
            subprotocol: None,
            headers: Headers::default(),
            body: Vec::new(),
            values: http::Extensions::new(),
        }
    }

    /// Chooses one of the subprotocols that the client offers. One that it did not offer is not
    /// sent.
    pub fn subprotocol(mut self, name: &str) -> Self {
        self.subprotocol = Some(name.into());
        self
    }

    /// Adds a header to the response, with its name as it is written here. One that HTTP does not
    /// allow, or that the handshake sets itself, is left out and logged.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        const OWN: [HeaderName; 7] = [
            header::CONNECTION,
            header::UPGRADE,
            header::CONTENT_LENGTH,
            header::TRANSFER_ENCODING,
            header::SEC_WEBSOCKET_ACCEPT,
            header::SEC_WEBSOCKET_EXTENSIONS,
            header::SEC_WEBSOCKET_PROTOCOL,
        ];
        match Header::new(name, value) {
            Ok(header) if !OWN.contains(header.name()) => self.headers.append(header),
            _ => {
                let line = format!("header {name:?} cannot be part of an answer");
                REPEATS.say("everlink", Level::Error, ("unusable_answer", "header"), line);
            }
        }
        self
    }

    /// The body that goes with a refusal.
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    pub(super) fn is_upgrade(&self) -> bool {
        self.status == StatusCode::SWITCHING_PROTOCOLS
    }
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answer")
            .field("status", &self.status)
            .field("subprotocol", &self.subprotocol.is_some())
            .field("headers", &self.headers.names().collect::<Vec<_>>())
            .field("body", &self.body.len())
            .finish()
    }
}
