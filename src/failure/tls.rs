//! What goes wrong with TLS.

use std::error::Error as StdError;

use super::text::Chain;

/// What went wrong with TLS.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// The peer's certificate was rejected.
    #[error("the peer's certificate is rejected: {check}: {}", Chain(.source.as_ref()))]
    #[non_exhaustive]
    Certificate {
        /// Which check failed.
        check: &'static str,
        /// What the verifier said.
        source: Box<dyn StdError + Send + Sync>,
    },
    /// The peer has rejected our certificate, or wants one where there is none.
    #[error("the peer {what}: {}", Chain(.source.as_ref()))]
    #[non_exhaustive]
    OwnCertificate {
        /// What it does not like.
        what: &'static str,
        /// What it said.
        source: Box<dyn StdError + Send + Sync>,
    },
    /// The peer speaks none of the application protocols that were offered (ALPN, RFC 7301).
    #[error(
        "the two sides have no application protocol in common (ALPN): {}",
        Chain(.0.as_ref())
    )]
    NoCommonProtocol(#[source] Box<dyn StdError + Send + Sync>),
    /// The two sides do not understand each other, or the peer refused.
    #[error("it could not be agreed on: {}", Chain(.0.as_ref()))]
    Protocol(#[source] Box<dyn StdError + Send + Sync>),
    /// What the peer has sent is something else: one side expects TLS here, the other does not.
    #[error(
        "what the peer sent is not TLS; plain connections are ws:// and tcp://, and often have \
         another port: {}",
        Chain(.0.as_ref())
    )]
    NotTls(#[source] Box<dyn StdError + Send + Sync>),
    /// What came does not decrypt or breaks the protocol, or the peer says so of what we sent, once
    /// the handshake was well under way or over. Something on the way changes bytes, or one side
    /// has a fault. Unlike the others it is no reason to give up.
    #[error("the connection was broken: {}", Chain(.0.as_ref()))]
    Broken(#[source] Box<dyn StdError + Send + Sync>),
}

#[cfg(feature = "tls")]
mod from_rustls {
    use std::io;

    use rustls::{AlertDescription as Alert, CertificateError as Wrong, Error, InvalidMessage};

    use super::TlsError;

    impl From<Error> for TlsError {
        fn from(error: Error) -> Self {
            let check = match &error {
                Error::InvalidCertificate(wrong) => match wrong {
                    Wrong::Expired | Wrong::ExpiredContext { .. } => "it has expired",
                    Wrong::NotValidYet | Wrong::NotValidYetContext { .. } => "it is not valid yet",
                    Wrong::Revoked => "it has been revoked",
                    Wrong::NotValidForName | Wrong::NotValidForNameContext { .. } => {
                        "it is for another name"
                    }
                    Wrong::UnknownIssuer => "no trusted authority has signed it",
                    Wrong::InvalidPurpose | Wrong::InvalidPurposeContext { .. } => {
                        "it is not for this side of a connection"
                    }
                    Wrong::BadSignature => "its signature is wrong",
                    // the verifier's own words: rustls has none for it
                    Wrong::Other(other) if format!("{other:?}").contains("CaUsedAsEndEntity") => {
                        "it is an authority's (basicConstraints CA:TRUE, which `openssl req -x509` sets \
                         unless told otherwise: -addext basicConstraints=critical,CA:FALSE), and \
                         none for a server or client"
                    }
                    Wrong::Other(_) => "it is malformed, or signed by itself",
                    _ => "it is malformed",
                },
                Error::NoCertificatesPresented => "there is none",
                Error::InvalidMessage(InvalidMessage::InvalidContentType) => {
                    return Self::NotTls(Box::new(error));
                }
                // keys were agreed on
                Error::DecryptError => return Self::Broken(Box::new(error)),
                Error::AlertReceived(Alert::NoApplicationProtocol)
                | Error::NoApplicationProtocol => return Self::NoCommonProtocol(Box::new(error)),
                Error::AlertReceived(alert) => {
                    return match about_own_certificate(*alert) {
                        Some(what) => Self::OwnCertificate { what, source: Box::new(error) },
                        None => Self::Protocol(Box::new(error)),
                    };
                }
                _ => return Self::Protocol(Box::new(error)),
            };
            Self::Certificate { check, source: Box::new(error) }
        }
    }

    /// The alerts with which a peer speaks of the certificate that it was shown.
    fn about_own_certificate(alert: Alert) -> Option<&'static str> {
        Some(match alert {
            Alert::CertificateRequired | Alert::NoCertificate => {
                "wants a certificate: give one with identity_pem"
            }
            Alert::BadCertificate | Alert::CertificateUnknown | Alert::UnsupportedCertificate => {
                "rejects our certificate"
            }
            Alert::CertificateExpired => "rejects our certificate: it has expired",
            Alert::CertificateRevoked => "rejects our certificate: it has been revoked",
            Alert::UnknownCA => {
                "rejects our certificate: no authority that it trusts has signed it"
            }
            // of the certificate, or of the handshake with its key
            Alert::DecryptError => "finds a signature of ours wrong",
            Alert::AccessDenied => "denies access to our certificate",
            _ => return None,
        })
    }

    /// What TLS says after the handshake, if that is what broke a read. In TLS 1.3 the handshake is
    /// over for a client before the server has looked at its certificate (RFC 8446 section 4.4.2),
    /// so the first read can have the verdict on that.
    pub(crate) fn verdict(error: &io::Error) -> Option<TlsError> {
        let error = error.get_ref()?.downcast_ref::<Error>()?.clone();
        Some(match TlsError::from(error) {
            TlsError::Protocol(source) | TlsError::NotTls(source) => TlsError::Broken(source),
            other => other,
        })
    }
}

#[cfg(feature = "tls")]
pub(crate) use from_rustls::verdict;

#[cfg(not(feature = "tls"))]
pub(crate) fn verdict(_: &std::io::Error) -> Option<TlsError> {
    None
}
