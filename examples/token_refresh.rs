//! A token that expires: each attempt has a fresh one, a server that ends a session because the token
//! is too old is dialed again, and one that takes none at all is not.
//!
//! ```text
//! cargo run --example token_refresh
//! ```

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::time::Duration;

use everlink::config::Backoff;
use everlink::failure::Decision;
use everlink::http::StatusCode;
use everlink::{Answer, Client, Error, Event, Failure, Server};

type Result<T, E = Box<dyn std::error::Error + Send + Sync>> = std::result::Result<T, E>;

/// The close code with which this service says that the token has expired (3000 is "unauthorized").
const EXPIRED: u16 = 3000;

/// Issues tokens, and knows which is good: the newest, until the account is locked.
#[derive(Default)]
struct Issuer {
    newest: AtomicU32,
}

/// After so many tokens the account is locked.
const LOCKED_AFTER: u32 = 3;

impl Issuer {
    /// In a real program a request to the service that issues tokens. It may block: each attempt has
    /// a thread of its own.
    fn issue(&self) -> String {
        format!("token-{}", self.newest.fetch_add(1, SeqCst) + 1)
    }

    fn accepts(&self, token: &str) -> bool {
        let newest = self.newest.load(SeqCst);
        newest <= LOCKED_AFTER && token == format!("token-{newest}")
    }
}

/// The token with which a session was opened.
#[derive(Clone)]
struct Token(String);

fn serve(issuer: Arc<Issuer>) -> Result<Server> {
    let server = Server::builder()
        .on_request(move |incoming| match incoming.bearer_auth() {
            Some(token) if issuer.accepts(token) => Answer::accept().with(Token(token.into())),
            _ => Answer::reject(StatusCode::UNAUTHORIZED).body("the account is locked"),
        })
        .bind("127.0.0.1:0", |session| {
            let token = session.get::<Token>().map_or("none", |token| token.0.as_str());
            // a token is good for ten messages
            for number in 1..=10 {
                if session.send(format!("{number} by {token}")).is_err() {
                    return;
                }
            }
            let _ = session.close_with(EXPIRED, "the token has expired");
        })?;
    Ok(server)
}

fn main() -> Result<()> {
    env_logger::init();
    let issuer = Arc::new(Issuer::default());
    let server = serve(Arc::clone(&issuer))?;
    let tokens = Arc::clone(&issuer);
    let client = Client::builder(format!("ws://{}", server.local_addr()))
        .bearer_auth_with(move || Ok(tokens.issue()))
        // "unauthorized" ends things unless it is said that a new token helps; the 401 of a locked
        // account still does
        .decide(|_, failure| match failure.close_frame() {
            Some(frame) if frame.code.0 == EXPIRED => Decision::Retry,
            _ => failure.decision(),
        })
        .backoff(Backoff::fixed(Duration::from_millis(20)))
        .on_event(|_, event| {
            if !matches!(event, Event::Connecting { .. }) {
                println!("{event}");
            }
        })
        .start()?;
    let mut received = Vec::new();
    let end = loop {
        match client.recv_timeout(Duration::from_secs(10)) {
            Ok(message) => received.push(message.to_string()),
            Err(error) => break error,
        }
    };
    println!("{} messages, then: {end}", received.len());
    let refused = matches!(
        &end,
        Error::GaveUp(cause) if matches!(&**cause, Failure::Rejected { status, .. } if *status == 401)
    );
    let expected = (1..=LOCKED_AFTER)
        .flat_map(|token| (1..=10).map(move |number| format!("{number} by token-{token}")));
    if refused && received.iter().cloned().eq(expected) {
        Ok(())
    } else {
        Err(format!("expected each token's messages and then a 401, got {received:?}").into())
    }
}
