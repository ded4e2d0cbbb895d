//! A connection that has been accepted, by the server or by the program.

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpStream};
#[cfg(unix)]
use std::os::unix::net::UnixStream;

use http::Request;
use socket2::SockRef;
use tungstenite::handshake::derive_accept_key;

use super::peer::Peer;
use crate::policy::SocketOptions;
use crate::transport::Duplex;

/// A connection that something else has accepted, for [`ServerHandle::adopt`](crate::ServerHandle::adopt),
/// with what is known of it. A `TcpStream` converts into one, a `UnixStream`, and a
/// [`Duplex`] of the program's own.
///
/// ```
/// use std::net::{TcpListener, TcpStream};
/// use everlink::{Accepted, Client, Server};
///
/// let server = Server::bind("127.0.0.1:0", |session| {
///     let _ = session.send("served");
/// })?;
/// let theirs = TcpListener::bind("127.0.0.1:0")?;
/// let client = Client::builder(format!("ws://{}", theirs.local_addr()?)).start()?;
/// let (stream, _) = theirs.accept()?;
/// server.adopt(stream)?;
/// assert_eq!(client.recv()?, "served");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Of another HTTP server
///
/// One that has read the request, and not answered it, gives that along:
/// [`request`](Self::request). This server answers, and everything is as with a connection of its own.
///
/// One that can only answer by itself writes the 101 with [`accept_key`](Self::accept_key), and says
/// so: [`upgraded`](Self::upgraded). Then nobody asks
/// [`on_request`](crate::ServerBuilder::on_request), nor looks at origins, and nothing is compressed.
#[must_use = "the connection is closed when this is dropped"]
pub struct Accepted {
    transport: Transport,
    read: Vec<u8>,
    address: Option<SocketAddr>,
    client: Option<SocketAddr>,
    stage: Stage,
}

enum Transport {
    Tcp(TcpStream),
    #[cfg(unix)]
    Unix(UnixStream),
    Other(Duplex),
}

/// How far another server has come with it.
#[derive(Debug)]
pub(super) enum Stage {
    /// Nothing was read.
    Fresh,
    /// This request was read, which nobody has answered.
    Requested(Request<()>),
    /// This one was granted, with this subprotocol.
    Upgraded(Request<()>, Option<String>),
}

impl Accepted {
    fn new(transport: Transport) -> Self {
        Self { transport, read: Vec::new(), address: None, client: None, stage: Stage::Fresh }
    }

    pub(super) fn tcp(stream: TcpStream, address: SocketAddr) -> Self {
        Self { address: Some(address), ..Self::new(Transport::Tcp(stream)) }
    }

    /// What was read of it already, behind the request if that is given along.
    pub fn read(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.read = bytes.into();
        self
    }

    /// Who the client is, if the program knows better than the socket:
    /// [`Session::client_addr`](crate::Session::client_addr), and whose connection it is for
    /// [`max_connections_per_address`](crate::ServerBuilder::max_connections_per_address). Default:
    /// the other end of the socket. If this is a proxy that is trusted to
    /// [forward](crate::ServerBuilder::forwarded), its request says more.
    pub fn client_addr(mut self, address: SocketAddr) -> Self {
        self.client = Some(address);
        self
    }

    /// Another server has read this request, and has not answered it.
    ///
    /// ```no_run
    /// use std::net::TcpStream;
    /// use everlink::{Accepted, Error, Server, http};
    ///
    /// /// `read` is what the other server has read past the request.
    /// fn to_websockets(
    ///     server: &Server,
    ///     stream: TcpStream,
    ///     request: http::Request<()>,
    ///     read: Vec<u8>,
    /// ) -> Result<(), Error> {
    ///     server.adopt(Accepted::from(stream).request(request).read(read))
    /// }
    /// ```
    pub fn request(mut self, request: Request<()>) -> Self {
        self.stage = Stage::Requested(request);
        self
    }

    /// Another server has read this request and answered it with 101, which says this subprotocol and no
    /// extension (RFC 6455 section 4.2.2).
    pub fn upgraded(mut self, request: Request<()>, subprotocol: Option<&str>) -> Self {
        self.stage = Stage::Upgraded(request, subprotocol.map(Into::into));
        self
    }

    /// What another server says in `Sec-WebSocket-Accept` to this `Sec-WebSocket-Key` (RFC 6455 section
    /// 4.2.2).
    ///
    /// ```
    /// use everlink::Accepted;
    ///
    /// assert_eq!(Accepted::accept_key("dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    /// ```
    pub fn accept_key(key: &str) -> String {
        derive_accept_key(key.trim().as_bytes())
    }

    /// Whose it is, as far as that is known.
    pub(super) fn peer(&self) -> io::Result<Peer> {
        let address = match (&self.transport, self.address) {
            (Transport::Tcp(stream), None) => Some(stream.peer_addr()?),
            (_, address) => address,
        };
        Ok(Peer::new(address, self.client))
    }

    /// Whether it begins with an HTTP request that was read, or granted, elsewhere.
    pub(super) fn has_request(&self) -> bool {
        !matches!(self.stage, Stage::Fresh)
    }

    /// The connection, with what was read of it put back, and how far it has come.
    pub(super) fn open(self, options: SocketOptions) -> io::Result<(Duplex, Stage)> {
        let duplex = match self.transport {
            Transport::Tcp(stream) => {
                options.apply(SockRef::from(&stream))?;
                Duplex::from(stream)
            }
            #[cfg(unix)]
            Transport::Unix(stream) => {
                options.apply_buffers(&SockRef::from(&stream))?;
                Duplex::from(stream)
            }
            Transport::Other(duplex) => duplex,
        };
        Ok((duplex.put_back(self.read), self.stage))
    }
}

impl From<TcpStream> for Accepted {
    fn from(stream: TcpStream) -> Self {
        Self::new(Transport::Tcp(stream))
    }
}

#[cfg(unix)]
impl From<UnixStream> for Accepted {
    fn from(stream: UnixStream) -> Self {
        Self::new(Transport::Unix(stream))
    }
}

impl From<Duplex> for Accepted {
    fn from(duplex: Duplex) -> Self {
        Self::new(Transport::Other(duplex))
    }
}

impl fmt::Debug for Accepted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Accepted")
            .field("address", &self.address)
            .field("client", &self.client)
            .field("read", &self.read.len())
            .finish_non_exhaustive()
    }
}
