//! One probe of each kind. A probe either finds the backend alive or says in a few words why not; its time limit is the
//! caller's.

use std::net::SocketAddr;
use std::pin::pin;

use config::policy::Probe;
use http_body_util::Empty;
use hyper::Request;
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use stage::introduction::PROXY_LOCAL;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::icmp;
use super::target::host_of;

/// Bytes of an answer's head that are read before it counts as wrong.
const HEAD_MAX: usize = 64 * 1024;

/// Probes once. `introduced` says that the backend expects the PROXY protocol's header first: it gets the one of a connection
/// on nobody's behalf.
///
/// # Errors
/// Why the backend does not count as alive.
pub(super) async fn probe(kind: &Probe, address: SocketAddr, introduced: bool) -> Result<(), String> {
    match kind {
        Probe::None => Ok(()),
        Probe::Tcp => connect(address, introduced).await.map(drop),
        Probe::Icmp => icmp::echo(address.ip()).await,
        Probe::Http { path, host, status_min, status_max } => {
            let host = host.clone().unwrap_or_else(|| host_of(address));
            let status = get(address, &host, path, introduced).await?;
            if (*status_min..=*status_max).contains(&status) {
                Ok(())
            } else {
                Err(format!("status {status}, not {status_min} to {status_max}"))
            }
        }
    }
}

async fn connect(address: SocketAddr, introduced: bool) -> Result<TcpStream, String> {
    let mut stream = TcpStream::connect(address).await.map_err(|error| format!("connect: {error}"))?;
    if introduced {
        stream.write_all(&PROXY_LOCAL).await.map_err(|error| format!("connect: {error}"))?;
    }
    Ok(stream)
}

/// Asks for `path` and returns the status. The body is not read: the connection is closed with the head.
async fn get(address: SocketAddr, host: &str, path: &str, introduced: bool) -> Result<u16, String> {
    let stream = connect(address, introduced).await?;
    let (mut sender, connection) = http1::Builder::new()
        .max_buf_size(HEAD_MAX)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|error| format!("http: {error}"))?;
    let request = Request::get(path)
        .header("Host", host)
        .header("User-Agent", concat!("millrace/", env!("CARGO_PKG_VERSION")))
        .header("Connection", "close")
        .body(Empty::<Bytes>::new())
        .map_err(|error| format!("http: {error}"))?;
    let mut answer = pin!(sender.send_request(request));
    let answer = tokio::select! {
        biased;
        answer = &mut answer => answer,
        // Ended with the answer, or without: in both cases the answer is decided now.
        _ = connection => answer.await,
    };
    answer.map(|answer| answer.status().as_u16()).map_err(|error| format!("http: {error}"))
}

#[cfg(test)]
mod tests {
    use std::net::Ipv6Addr;

    use tokio::io::AsyncReadExt;
    use tokio::net::TcpListener;

    use super::*;

    fn http(status_min: u16, status_max: u16) -> Probe {
        Probe::Http { path: "/healthz".into(), host: None, status_min, status_max }
    }

    /// Answers one request with these bytes; returns the request.
    async fn server(answer: &'static str) -> (SocketAddr, tokio::task::JoinHandle<String>) {
        let listener = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let served = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                request.push(stream.read_u8().await.unwrap());
            }
            stream.write_all(answer.as_bytes()).await.unwrap();
            String::from_utf8(request).unwrap()
        });
        (address, served)
    }

    #[tokio::test]
    async fn an_http_status_in_bounds_is_alive_and_another_is_not() {
        for (answer, outcome) in [
            ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", Ok(())),
            ("HTTP/1.0 204 No Content\r\n\r\n", Ok(())),
            // Alive as soon as the head is right, however long the body is.
            ("HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\nshort", Ok(())),
            (
                "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n",
                Err("status 503, not 200 to 399".to_owned()),
            ),
        ] {
            let (address, served) = server(answer).await;
            assert_eq!(probe(&http(200, 399), address, false).await, outcome, "{answer}");
            let request = served.await.unwrap();
            assert!(request.starts_with("GET /healthz HTTP/1.1\r\n"), "{request}");
            assert!(request.to_ascii_lowercase().contains(&format!("host: {address}\r\n")), "{request}");
        }
    }

    #[tokio::test]
    async fn what_is_not_http_is_not_alive() {
        for answer in ["", "SSH-2.0-OpenSSH_9.2\r\n", "HTTP/1.1 20x\r\n\r\n"] {
            let (address, _served) = server(answer).await;
            let error = probe(&http(100, 599), address, false).await.unwrap_err();
            assert!(error.starts_with("http: "), "{answer}: {error}");
        }
    }

    #[tokio::test]
    async fn a_listening_port_is_alive_and_a_closed_one_is_not() {
        let listener = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        assert_eq!(probe(&Probe::Tcp, address, false).await, Ok(()));
        drop(listener);
        let error = probe(&Probe::Tcp, address, false).await.unwrap_err();
        assert!(error.starts_with("connect: Connection refused"), "{error}");
    }

    /// PROXY protocol, section 2.2: the command LOCAL, before the request.
    #[tokio::test]
    async fn a_backend_behind_the_proxy_protocol_gets_its_header_first() {
        let listener = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let served = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut first = [0; 20];
            stream.read_exact(&mut first).await.unwrap();
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await.unwrap();
            first
        });
        assert_eq!(probe(&http(200, 399), address, true).await, Ok(()));
        let first = served.await.unwrap();
        assert_eq!((&first[..16], &first[16..]), (&PROXY_LOCAL[..], &b"GET "[..]));
    }
}
