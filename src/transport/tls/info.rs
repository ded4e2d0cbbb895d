//! What TLS says of a connection.

use std::fmt;

use rustls::pki_types::CertificateDer;
use rustls::server::ServerConnection;
use webpki::EndEntityCert;

/// What TLS says of a connection that a server has accepted: who the client is, and what was agreed on. From
/// [`Session::tls`](crate::Session::tls) and [`Incoming::tls`](crate::Incoming::tls).
///
/// ```
/// use everlink::http::StatusCode;
/// use everlink::{Answer, Incoming, Server};
///
/// fn answer(incoming: &Incoming) -> Answer {
///     // of an authority that the server trusts, as `client_authorities_file` says
///     let names = incoming.tls().map(|tls| tls.peer_dns_names()).unwrap_or_default();
///     match names.as_slice() {
///         [name] => Answer::accept().with((*name).to_owned()),
///         _ => Answer::reject(StatusCode::FORBIDDEN),
///     }
/// }
///
/// let server = Server::builder().on_request(answer);
/// # let _ = server;
/// ```
///
/// Its `Debug` shows what was asked for and agreed on, and of a certificate nothing but that there is one.
#[derive(Clone)]
pub struct TlsInfo {
    certificates: Vec<CertificateDer<'static>>,
    server_name: Option<Box<str>>,
    alpn: Option<Box<[u8]>>,
}

impl TlsInfo {
    /// Of a handshake that is done.
    pub(super) fn of(connection: &ServerConnection) -> Self {
        let certificates = connection.peer_certificates().unwrap_or_default().iter();
        Self {
            certificates: certificates.cloned().map(CertificateDer::into_owned).collect(),
            server_name: connection.server_name().map(Into::into),
            alpn: connection.alpn_protocol().map(Into::into),
        }
    }

    /// The certificates that the client has shown, its own first, in DER; empty where the server asks for
    /// none, and where it lets clients in that have none. The first is verified: it comes from one of the server's
    /// authorities, and the client has its key. The others are what the client has sent along.
    ///
    /// Fields that have no method here, such as the subject with its common name, a crate for X.509 reads
    /// from these (`x509-parser`).
    pub fn peer_certificates(&self) -> &[CertificateDer<'static>] {
        &self.certificates
    }

    /// The DNS names in the client's certificate, as they are written there, `*.example.org` too: its subject
    /// alternative names of that kind. Empty without a certificate. The common name is none of them.
    pub fn peer_dns_names(&self) -> Vec<&str> {
        self.certificates.first().map(dns_names).unwrap_or_default()
    }

    /// The URIs in the client's certificate, `spiffe://example.org/pump/7`: its subject alternative names
    /// of that kind, which nobody but the authority has looked at. Empty without a certificate.
    pub fn peer_uri_names(&self) -> Vec<&str> {
        let certificate =
            self.certificates.first().and_then(|der| EndEntityCert::try_from(der).ok());
        certificate.map(|certificate| certificate.valid_uri_names().collect()).unwrap_or_default()
    }

    /// The name of the server that the client has asked for, in lower case (SNI, RFC 6066 section 3). A client
    /// that dials an address asks for none. Nobody has checked that the server is known by it.
    pub fn server_name(&self) -> Option<&str> {
        self.server_name.as_deref()
    }

    /// The application protocol that was agreed on (ALPN, RFC 7301): the first of
    /// [the server's](crate::config::Tls::alpn) that the client has offered as well. `None` if either names
    /// none.
    pub fn alpn(&self) -> Option<&[u8]> {
        self.alpn.as_deref()
    }
}

impl fmt::Debug for TlsInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsInfo")
            .field("peer_certificates", &self.certificates.len())
            .field("server_name", &self.server_name)
            .field("alpn", &self.alpn.as_deref().map(String::from_utf8_lossy))
            .finish()
    }
}

/// The DNS names in a certificate; none if it is malformed.
pub(super) fn dns_names<'a>(certificate: &'a CertificateDer<'_>) -> Vec<&'a str> {
    let certificate = EndEntityCert::try_from(certificate).ok();
    certificate.map(|certificate| certificate.valid_dns_names().collect()).unwrap_or_default()
}
