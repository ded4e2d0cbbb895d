//! What is said about a session before it has its link: the offer, the answer, the first report.

use std::sync::Arc;

use log::Level;

use super::core::ServerCore;
use super::journal::Journal;
use super::newcomer::Newcomer;
use super::owner;
use super::peer_info::PeerInfo;
use super::resumable::Terms;
use super::resumption::{Found, Resumption};
use crate::resume::{Answer, Offer, Token};

/// Gives a connection its session, and runs that if it is a new one.
pub(super) fn run(
    server: &Arc<ServerCore>,
    resumption: &Arc<Resumption>,
    id: u64,
    mut newcomer: Newcomer,
    info: PeerInfo,
) {
    let journal = Journal::new(server.label(), id, newcomer.peer());
    let offer = match newcomer.offer() {
        Ok(offer) => offer,
        Err(failure) => {
            journal.not_opened(&failure, true);
            return newcomer.refuse(&failure);
        }
    };
    if let Offer::Resume { token, attempt, received, has } = offer {
        let terms = Terms { attempt, received, has: has.unwrap_or(received) };
        let find = || resumption.find(&token, &info, terms);
        let mut found = find();
        if let Some(Found::Live(session, resumable)) = found {
            found = match server.may_resume(info.incoming(), &session) {
                Some(true) => match resumable.claim(newcomer, terms) {
                    Ok(()) => return,
                    Err(refused) => {
                        newcomer = *refused;
                        // it may have ended in order while its owner was asked
                        find()
                    }
                },
                Some(false) => None,
                None => return newcomer.turn_away("nobody knows whether it may"),
            };
        }
        match found {
            Some(Found::Unreported) => {
                return begin(server, resumption, id, newcomer, info, (token, attempt));
            }
            Some(Found::Ended { received, frame }) => {
                let answer = Answer { token, received, has: None, window: None };
                let limits = server.settings.limits_with(true);
                if let Err(failure) = newcomer.say_over(&answer, &frame, limits) {
                    log::debug!("{}: a session was over: {failure}", server.name());
                }
                return;
            }
            // nothing is changed by a claim that is refused
            Some(Found::Live(..)) | None => {}
        }
    }
    match Token::generate() {
        Ok(token) => begin(server, resumption, id, newcomer, info, (token, 0)),
        Err(error) => {
            let line = format!("{} refused: no token for its session: {error}", newcomer.peer());
            server.refused(Level::Error, "resources", line);
        }
    }
}

/// A new session, if its client reports. Until then it is no more than a token.
fn begin(
    server: &Arc<ServerCore>,
    resumption: &Arc<Resumption>,
    id: u64,
    mut newcomer: Newcomer,
    info: PeerInfo,
    (token, attempt): (Token, u64),
) {
    let peer = newcomer.peer();
    if let Err(why) = newcomer.admitted().settle() {
        resumption.lose_unreported(&token, attempt, true);
        newcomer.turn_away(why);
        return server.refused(Level::Warn, why, format!("{peer} refused: {why}"));
    }
    if attempt == 0 {
        resumption.expect(&token, &info);
    }
    let window = Some(resumption.settings().window().as_secs());
    let answer = Answer { token: token.clone(), received: 0, has: None, window };
    match newcomer.answer(&answer).and_then(|()| newcomer.first_report()) {
        Ok(()) => {
            owner::run(server, resumption, id, newcomer, info, (&token, attempt));
            // unless it has begun
            resumption.lose_unreported(&token, attempt, true);
        }
        Err(failure) => {
            resumption.lose_unreported(&token, attempt, !failure.ends_session());
            Journal::new(server.label(), id, peer).not_opened(&failure, true);
            newcomer.refuse(&failure);
        }
    }
}
