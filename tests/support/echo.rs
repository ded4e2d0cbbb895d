// An expression: a server on loopback that sends back what comes, and its URL. The hidden lines of the
// documentation's examples include it, as `support::echo_server` does.
{
    let server = everlink::Server::bind("127.0.0.1:0", |session| {
        for message in &session {
            if session.send(message).is_err() {
                break;
            }
        }
    });
    let server = server.expect("a port of loopback");
    let url = format!("ws://{}", server.local_addr());
    (server, url)
}
