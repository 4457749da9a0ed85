//! The shop that `swell demo` deploys: a small HTTP service with nothing but the standard library. Reads
//! `conf/shop.conf` and its stock from the release's tree; the port comes from the host (`SHOP_PORT`).
//! `GET /` names its version, `GET /health` answers 200, or 500 when the stock cannot be read.
//! With `--check` it asks its own host's `/health` instead and exits with 0 or 1: the release's probe.

use std::collections::BTreeMap;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::ExitCode;
use std::time::{Duration, Instant};
use std::{env, fs, thread};

/// Where the service finds what it is configured to be, relative to its tree.
const CONF: &str = "conf/shop.conf";
/// Longest wait for the process before to free the port.
const BIND_MAX: Duration = Duration::from_secs(5);
/// Longest wait for one client.
const CLIENT_MAX: Duration = Duration::from_secs(2);
/// Longest request line, in bytes.
const REQUEST_MAX_BYTES: u64 = 4 * 1024;

fn main() -> ExitCode {
    let done = if env::args().nth(1).as_deref() == Some("--check") { check() } else { serve() };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // There is nowhere left to say that stderr is closed.
            let _ = writeln!(io::stderr(), "shop: {error}");
            ExitCode::FAILURE
        }
    }
}

fn address() -> io::Result<SocketAddr> {
    let port = env::var("SHOP_PORT").ok().and_then(|port| port.parse::<u16>().ok());
    let port = port.ok_or_else(|| io::Error::other("set SHOP_PORT to the port of this host"))?;
    Ok((Ipv4Addr::LOCALHOST, port).into())
}

/// `key = value` lines; a line that starts with '#' is a comment.
fn configuration() -> io::Result<BTreeMap<String, String>> {
    let text = fs::read_to_string(CONF)?;
    let pairs = text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| {
        let (key, value) = line.split_once('=')?;
        Some((key.trim().to_owned(), value.trim().to_owned()))
    });
    Ok(pairs.collect())
}

fn serve() -> io::Result<()> {
    let configuration = configuration()?;
    let listener = bind(address()?)?;
    for stream in listener.incoming() {
        // A client that goes away in the middle is its own affair.
        let _ = stream.and_then(|stream| answer(stream, &configuration));
    }
    Ok(())
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let end = Instant::now() + BIND_MAX;
    loop {
        match TcpListener::bind(address) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && Instant::now() < end => {
                thread::sleep(Duration::from_millis(20));
            }
            other => return other,
        }
    }
}

fn answer(mut stream: TcpStream, conf: &BTreeMap<String, String>) -> io::Result<()> {
    stream.set_read_timeout(Some(CLIENT_MAX))?;
    stream.set_write_timeout(Some(CLIENT_MAX))?;
    let mut request = BufReader::new(stream.try_clone()?.take(REQUEST_MAX_BYTES));
    let mut line = String::new();
    request.read_line(&mut line)?;
    let mut header = String::from("x");
    while !header.trim().is_empty() {
        header.clear();
        request.read_line(&mut header)?;
    }
    let text = |key: &str| conf.get(key).map_or("", String::as_str);
    let (status, body) = match line.split_whitespace().nth(1) {
        Some("/") => ("200 OK", format!("{} {}\n", text("name"), text("version"))),
        Some("/health") => match fs::read_to_string(text("stock")) {
            Ok(stock) => ("200 OK", format!("{} articles\n", stock.lines().count())),
            Err(error) => {
                ("500 Internal Server Error", format!("no stock: {}: {error}\n", text("stock")))
            }
        },
        _ => ("404 Not Found", "GET / or /health\n".to_owned()),
    };
    let length = body.len();
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\n\
         Connection: close\r\n\r\n{body}"
    )
}

fn check() -> io::Result<()> {
    let mut stream = TcpStream::connect_timeout(&address()?, CLIENT_MAX)?;
    stream.set_read_timeout(Some(CLIENT_MAX))?;
    stream.write_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut text = String::new();
    stream.take(REQUEST_MAX_BYTES).read_to_string(&mut text)?;
    if text.starts_with("HTTP/1.1 200 ") {
        return Ok(());
    }
    let line = |at: usize| text.lines().nth(at).unwrap_or_default();
    Err(io::Error::other(format!("{}: {}", line(0), text.lines().last().unwrap_or_default())))
}
