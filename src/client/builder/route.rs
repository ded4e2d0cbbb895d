//! Settings of the way to the peer: which endpoints, through what, with which sockets.

use std::net::SocketAddr;
use std::sync::Arc;

use super::ClientBuilder;
use crate::client::route::Route;
use crate::dial::{Connect, Environment, Proxy, Resolve};

impl ClientBuilder {
    /// Another endpoint of the same service, which is tried after those before it: each failure
    /// moves on to the next, and after the last comes the first. Headers and subprotocols are
    /// sent to all of them. A permanent failure of one ends the search, unless
    /// [`decide`](Self::decide) says otherwise.
    ///
    /// ```
    /// # let (server, url) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/echo.rs"));
    /// use everlink::Client;
    ///
    /// // nobody listens at the first: the second attempt goes to the other
    /// let client = Client::builder("ws://127.0.0.1:1").fallback(&url).start()?;
    /// client.wait_connected(std::time::Duration::from_secs(10))?;
    /// # Ok::<(), everlink::Error>(())
    /// ```
    pub fn fallback(mut self, url: &str) -> Self {
        self.fallbacks.push(url.into());
        self
    }

    /// Tries the endpoints in an order that is drawn at the start, so that many clients spread
    /// over them.
    pub fn shuffle_endpoints(mut self) -> Self {
        self.shuffle = true;
        self
    }

    /// Whom to trust and who to be on `wss://` and `tcps://`. Default: Mozilla's root
    /// certificates, and no certificate of our own.
    #[cfg(feature = "tls")]
    pub fn tls(mut self, tls: crate::Tls) -> Self {
        self.tls = Some(tls);
        self
    }

    /// Resolves names with this instead of the system's resolver. It is asked for names only: an
    /// address in a URL or a redirect is dialed as it is. [`connect_to`](Self::connect_to) holds for
    /// addresses, too.
    ///
    /// ```
    /// # let (server, url) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/echo.rs"));
    /// use everlink::Client;
    ///
    /// let address = server.local_addr();
    /// let client = Client::builder("ws://feed.internal")
    ///     .resolver(move |_host: &str, _port| Ok(vec![address]))
    ///     .connect()?;
    /// # let _ = client;
    /// # Ok::<(), everlink::Error>(())
    /// ```
    pub fn resolver(mut self, resolve: impl Resolve) -> Self {
        self.resolve = Some(Arc::new(resolve));
        self
    }

    /// Connects to this address and port, whatever the URL says, be it a name or an address: for tests
    /// and tunnels. It holds for fallbacks, redirects and URLs of [`request`](Self::request), too, and
    /// with a proxy in place of the proxy's address. The `Host` header and the name that a certificate
    /// is checked for stay those of the URL.
    ///
    /// ```
    /// # let (server, url) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/echo.rs"));
    /// use everlink::Client;
    ///
    /// let client = Client::builder("ws://feed.internal").connect_to(server.local_addr()).connect()?;
    /// # let _ = client;
    /// # Ok::<(), everlink::Error>(())
    /// ```
    pub fn connect_to(mut self, address: SocketAddr) -> Self {
        self.connect_to = Some(address);
        self
    }

    /// Connects through this proxy, which resolves the names.
    ///
    /// ```no_run
    /// use everlink::{Client, Proxy};
    ///
    /// let proxy = Proxy::new("http://user:password@proxy.internal:3128")?;
    /// let client = Client::builder("wss://feed.example.org").proxy(proxy).connect()?;
    /// # let _ = client;
    /// # Ok::<(), everlink::Error>(())
    /// ```
    pub fn proxy(mut self, proxy: Proxy) -> Self {
        self.route = Route::Through(proxy);
        self
    }

    /// Connects through the proxy that the environment names for the endpoint, if it names one:
    /// `HTTPS_PROXY`, `HTTP_PROXY` or `ALL_PROXY`, unless `NO_PROXY` excepts the host: by its name
    /// or a domain above it, by its address or a range (`10.0.0.0/8`), each with or without a port.
    /// The environment is read here, and one that names a proxy that cannot be used is refused at
    /// the start.
    pub fn proxy_from_env(mut self) -> Self {
        let environment = Environment::read(|name| std::env::var_os(name));
        self.route = Route::AsTheEnvironmentSays(Box::new(environment));
        self
    }

    /// Makes connections with this instead of TCP. Whatever concerns names, proxies and sockets is
    /// its own business, and refused at the start here.
    pub fn connector(mut self, connector: impl Connect) -> Self {
        self.connector = Some(Arc::new(connector));
        self
    }
}
