//! One attempt to make a link: resolve, connect, shake hands, log in. Each step has its
//! deadline, and `close()` interrupts every one of them.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use tungstenite::protocol::Role;

use super::core::Core;
use super::login::{HookResult, LoginHook, LoginSession};
use super::network::{Network, Opening};
use super::session::{ClientSession, Start};
use crate::dial::Interrupt;
use crate::failure::{Decision, Failure, HandshakeError};
use crate::handshake::{self, Handshake, OpeningRequest};
use crate::http1::{Endpoint, Jar};
use crate::link::{Opened, Talk};
use crate::message::{CloseCode, CloseFrame};
use crate::resume::{Answer, Note, Offer};
use crate::settings::Settings;
use crate::transport::Timed;
use crate::wire::Protocol;

const TOKEN: &str = "token closure";
const REQUEST: &str = "request closure";
const LOGIN: &str = "login hook";

/// Lets the program change the request of each attempt.
type RequestHook = Box<dyn FnMut(&mut OpeningRequest) -> HookResult + Send>;

/// Makes the token of each attempt.
type TokenHook = Box<dyn FnMut() -> HookResult<String> + Send>;

/// The program's code in each attempt.
#[derive(Default)]
pub(super) struct Hooks {
    pub(super) token: Option<TokenHook>,
    pub(super) request: Option<RequestHook>,
    pub(super) login: Option<LoginHook>,
}

/// Makes one link after the other, each on a thread that ends with the attempt.
pub(super) struct Opener {
    settings: Arc<Settings>,
    network: Network,
    /// Where cookies are kept, if they are.
    jar: Option<Jar>,
    /// One for each endpoint; the present one is first.
    requests: VecDeque<OpeningRequest>,
    /// Where the last attempt went, or would have gone: the program may have named another
    /// endpoint, and a server may have redirected it.
    dialed: Option<String>,
    /// Where the program wants the next attempt to go, whatever the endpoints are.
    directed: Option<Endpoint>,
    /// Whether the program has set the endpoints since the last attempt.
    are_new: bool,
    hooks: Hooks,
}

/// An attempt that has succeeded.
pub(super) struct Success {
    pub(super) opened: Opened,
    /// What the server said to the opening handshake, where there is one.
    pub(super) response: Option<http::Response<()>>,
    pub(super) start: Start,
    #[cfg_attr(not(feature = "tls"), expect(dead_code, reason = "there is no TLS to begin"))]
    is_secure: bool,
}

impl Opener {
    pub(super) fn new(
        settings: Arc<Settings>,
        network: Network,
        jar: Option<Jar>,
        requests: VecDeque<OpeningRequest>,
        hooks: Hooks,
    ) -> Self {
        let (dialed, directed, are_new) = (None, None, false);
        Self { settings, network, jar, requests, dialed, directed, are_new, hooks }
    }

    /// What to do after a failure, unless the program decides. A 401 is retried if each attempt has a
    /// new token.
    pub(super) fn decision(&self, cause: &Failure) -> Decision {
        match cause {
            Failure::Rejected { status, .. }
                if self.hooks.token.is_some() && status.as_u16() == 401 =>
            {
                Decision::Retry
            }
            _ => cause.decision(),
        }
    }

    /// The endpoint that was dialed last, or is dialed first, for events.
    pub(super) fn endpoint(&self) -> String {
        self.dialed.clone().unwrap_or_else(|| self.requests[0].endpoint.to_string())
    }

    /// The endpoint that the next attempt goes to, unless the program names another.
    pub(super) fn upcoming(&self) -> String {
        self.directed.as_ref().unwrap_or(&self.requests[0].endpoint).to_string()
    }

    /// The next attempt goes there.
    pub(super) fn go_to(&mut self, url: &str) {
        let mut request = self.requests[0].clone();
        match request.set_url(url) {
            Ok(()) => self.directed = Some(request.endpoint),
            Err(error) => log::error!("the URL that was decided on is passed over: {error}"),
        }
    }

    /// The program has set the endpoints anew.
    pub(super) fn adopt(&mut self, requests: VecDeque<OpeningRequest>) {
        (self.requests, self.directed) = (requests, None);
        self.are_new = true;
    }

    /// Moves on to the next endpoint.
    pub(super) fn next_endpoint(&mut self) {
        self.requests.rotate_left(1);
    }

    /// Makes an attempt, the `attempt`-th in a row. If the client is closed already there is time until
    /// `latest`.
    pub(super) fn open(
        &mut self,
        attempt: u32,
        core: &Arc<Core>,
        latest: Option<Instant>,
        session: &mut ClientSession,
    ) -> Result<Success, Failure> {
        let mut request = OpeningRequest { attempt, ..self.requests[0].clone() };
        if let Some(endpoint) = self.directed.take() {
            request.endpoint = endpoint;
        }
        self.dialed = Some(request.endpoint.to_string());
        if let Some(make) = &mut self.hooks.token {
            let token = core.call(TOKEN, make)?.map_err(Failure::Request)?;
            request.bearer_auth(&token).map_err(|error| Failure::Request(error.into()))?;
        }
        if let Some(hook) = &mut self.hooks.request {
            core.call(REQUEST, || hook(&mut request))?.map_err(Failure::Request)?;
        }
        let (of_closed, timeouts) = (Interrupt::new(), self.settings.timeouts());
        let interrupt = if latest.is_some() { &of_closed } else { &core.interrupt };
        let mut opening = Opening::new(timeouts, request.endpoint.clone(), latest);
        let are_new = std::mem::take(&mut self.are_new);
        let first = match session.go_back() {
            // unless the program names another endpoint, now or for all attempts
            Some(endpoint) if !are_new && request.endpoint == self.requests[0].endpoint => {
                request.redirected(endpoint)
            }
            _ => request.clone(),
        };
        let result = self
            .follow(request, first, &mut opening, interrupt, session)
            .and_then(|success| self.log_in(success, core, latest));
        interrupt.unwatch();
        if interrupt.is_raised() {
            return Err(Failure::Interrupted);
        }
        match &result {
            Ok(_) => self.network.succeeded(&opening, self.settings.resume.is_some()),
            Err(_) => self.network.failed(&opening),
        }
        result
    }

    /// Opens what the request names, or what the server there redirects to.
    fn follow(
        &mut self,
        home: OpeningRequest,
        first: OpeningRequest,
        opening: &mut Opening,
        interrupt: &Interrupt,
        session: &mut ClientSession,
    ) -> Result<Success, Failure> {
        let mut redirects = 0;
        // a redirect may repeat what the server was told
        let secrets = home.secrets();
        let mut request = first;
        loop {
            self.dialed = Some(match redirects {
                0 => request.endpoint.to_string(),
                _ => secrets.clean(&request.endpoint.to_string()),
            });
            let failure = match self.shake_hands(&request, opening, interrupt, session) {
                Ok(opened) => return Ok(opened),
                Err(Failure::Dns { host, source }) if redirects > 0 => {
                    Failure::Dns { host: secrets.clean(&host), source }
                }
                Err(failure) => failure,
            };
            let failure = opening.blame_the_clock(failure, redirects);
            let Some(location) = handshake::location(&failure) else { return Err(failure) };
            let bad = |what: String| {
                Failure::Handshake(HandshakeError::BadRedirect(secrets.clean(&what)))
            };
            redirects += 1;
            if redirects > self.settings.max_redirects() {
                return Err(bad(format!("more than {} of them", self.settings.max_redirects())));
            }
            let endpoint = request.endpoint.join(location);
            let endpoint = endpoint.map_err(|error| bad(error.to_string()))?;
            if !endpoint.scheme.is_websocket() {
                return Err(bad(format!("{endpoint} is no WebSocket")));
            }
            if request.endpoint.scheme.is_tls() && !endpoint.scheme.is_tls() {
                return Err(bad(format!("from TLS to {endpoint}, which has none")));
            }
            log::debug!("redirected to {}", secrets.clean(&endpoint.to_string()));
            let endpoint = endpoint.dialable().map_err(|error| bad(error.to_string()))?;
            request = home.redirected(endpoint);
        }
    }

    fn shake_hands(
        &mut self,
        request: &OpeningRequest,
        opening: &mut Opening,
        interrupt: &Interrupt,
        session: &mut ClientSession,
    ) -> Result<Success, Failure> {
        let endpoint = &request.endpoint;
        let mut duplex = self.network.connect(endpoint, opening, interrupt)?;
        let (compression, wants_session) =
            (self.settings.compression.as_ref(), self.settings.resume.is_some());
        if !endpoint.scheme.is_websocket() {
            let protocol = Protocol::Framed(self.settings.spoken_framing());
            let limits = self.settings.limits_with(wants_session);
            let mut opened = Opened::new(duplex, protocol, limits, Vec::new())?;
            let start = match wants_session {
                true => self.agree(&mut opened, opening.deadline(), endpoint, session)?,
                false => Start::Ordinary,
            };
            let is_secure = endpoint.scheme.is_tls();
            return Ok(Success { opened, response: None, start, is_secure });
        }
        let mut request = std::borrow::Cow::Borrowed(request);
        if let Some(jar) = &self.jar {
            let room = handshake::room(&request, compression, wants_session);
            if let Some(cookies) = jar.header(endpoint, &request.headers, room) {
                request.to_mut().headers.set(cookies);
            }
        }
        let mut opened = handshake::open(
            &mut Timed::new(&mut duplex, opening.deadline()),
            &request,
            compression,
            wants_session,
        );
        if let Err(Failure::Rejected { retry_after, waits, .. }) = &mut opened {
            *waits = retry_after.map(|asked| asked.min(self.settings.max_retry_after()));
        }
        if let Some(jar) = &mut self.jar {
            match &opened {
                Ok(opened) => jar.store(endpoint, opened.response.headers()),
                Err(Failure::Rejected { headers, .. }) => jar.store(endpoint, headers),
                Err(_) => {}
            }
        }
        let timeout = self.settings.timeouts().handshake;
        let Handshake { response, compression, has_session, read, secrets } =
            opened.map_err(|failure| failure.in_time(timeout))?;
        let limits = self.settings.limits_with(has_session);
        let protocol = Protocol::websocket(Role::Client, self.settings.packets.clone());
        let mut opened = Opened::new(duplex, protocol, limits, read)?.compressed(compression);
        opened.secrets = secrets;
        let start = match has_session {
            true => self.agree(&mut opened, opening.deadline(), endpoint, session)?,
            false => Start::Ordinary,
        };
        let is_secure = endpoint.scheme.is_tls();
        Ok(Success { opened, response: Some(response), start, is_secure })
    }

    /// Offers a session, or to go on with the one that there is, and takes the answer.
    fn agree(
        &self,
        opened: &mut Opened,
        deadline: Instant,
        endpoint: &Endpoint,
        session: &mut ClientSession,
    ) -> Result<Start, Failure> {
        let offer = session.offer(endpoint);
        if let Offer::Resume { token, .. } = &offer {
            opened.secrets.add(token.as_str());
        }
        let in_time = |failure: Failure| failure.in_time(self.settings.timeouts().handshake);
        let mut talk = Talk::new(opened);
        talk.say(&offer, deadline).map_err(|error| in_time(error.into()))?;
        let said = talk.recv(deadline).map_err(in_time)?;
        // one that cannot name a session has no say about it
        let answer = talk.text_of(&said).and_then(Answer::parse);
        let Some(answer) = answer else { return Err(HandshakeError::NoAnswer.into()) };
        let start = session.answered(&offer, &answer, endpoint).inspect_err(|_| {
            talk.close(Some(&CloseFrame::new(CloseCode::PROTOCOL_ERROR, "")), deadline);
        })?;
        let received = match (&start, &offer) {
            (Start::Resumed { .. }, Offer::Resume { received, .. }) => *received,
            _ => 0,
        };
        talk.say(&Note::Report(received), deadline).map_err(|error| in_time(error.into()))?;
        talk.opened().secrets.add(answer.token.as_str());
        Ok(start)
    }

    fn log_in(
        &mut self,
        mut success: Success,
        core: &Arc<Core>,
        latest: Option<Instant>,
    ) -> Result<Success, Failure> {
        let Some(hook) = &mut self.hooks.login else { return Ok(success) };
        #[cfg(feature = "tls")]
        let is_secure = success.is_secure;
        let Success { opened, response, start, .. } = &mut success;
        if matches!(start, Start::Resumed { .. }) {
            // the server remembers
            return Ok(success);
        }
        let deadline = Instant::now() + self.settings.timeouts().login;
        let deadline = latest.map_or(deadline, |latest| deadline.min(latest));
        let mut session = LoginSession::new(
            opened,
            deadline,
            response.as_ref(),
            &core.counters,
            &self.settings,
            start.new_counts(),
            #[cfg(feature = "tls")]
            (is_secure, self.network.tls()),
        );
        // a hook may wait for the server until the timeout of the login
        let patience = core.stalled_after.max(self.settings.timeouts().login);
        let result = core.call_within(patience, LOGIN, || hook(&mut session))?;
        let sent = session.end(result)?;
        if let Start::New { login, .. } = start {
            *login = sent;
        }
        Ok(success)
    }
}
