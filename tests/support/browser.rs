//! A page in headless Chromium, from `EVERLINK_CHROMIUM` or `/usr/bin/chromium`.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use everlink::{Calls, Client};
use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::{Value, json};

use super::{PATIENCE, eventually, ms};

/// A browser that shows one page until it is dropped.
pub struct Browser {
    child: Child,
    profile: PathBuf,
}

impl Browser {
    /// What is started. `None` if there is no browser, which it says.
    pub fn program() -> Option<PathBuf> {
        let program = std::env::var_os("EVERLINK_CHROMIUM");
        let program = program.map_or(PathBuf::from("/usr/bin/chromium"), PathBuf::from);
        if !program.exists() {
            println!("skipped: {} is not there", program.display());
            return None;
        }
        Some(program)
    }

    /// Opens the page, which has to be on this machine: the browser finds nothing else. `None` if
    /// there is no browser, which it says. `name` is for the profile's folder.
    pub fn open(url: &str, name: &str) -> Option<Self> {
        let program = Self::program()?;
        let profile = format!("everlink-chromium-{}-{name}", std::process::id());
        let profile = std::env::temp_dir().join(profile);
        std::fs::create_dir_all(&profile).expect("a folder for the profile");
        let child = Command::new(program)
            .args(["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run"])
            .args(["--disable-background-networking", "--disable-component-update"])
            .args(["--disable-sync", "--disable-dev-shm-usage"])
            .arg("--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1")
            .arg(format!("--user-data-dir={}", profile.display()))
            .args(["--remote-debugging-port=0", url])
            // what it leaves behind when it is killed
            .env("TMPDIR", &profile)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .expect("the browser starts");
        Some(Self { child, profile })
    }

    /// What an expression is in the page, as text: asked over the browser's own WebSocket.
    pub fn evaluate(&self, expression: &str) -> String {
        let answers: Calls<u64, Value> = Calls::new();
        let answered = answers.clone();
        let client = Client::builder(self.page_url())
            .on_message(move |_, message| {
                let answer: Value = message.json().expect("the browser speaks JSON");
                if let Some(id) = answer["id"].as_u64() {
                    answered.complete(&id, answer);
                }
            })
            .connect()
            .expect("the browser answers");
        let params = json!({ "expression": expression });
        let question = json!({ "id": 1, "method": "Runtime.evaluate", "params": params });
        let answer = answers.call(client.sender(), 1, question, PATIENCE).expect("an answer");
        answer["result"]["result"]["value"].as_str().unwrap_or_default().to_owned()
    }

    /// Where the browser can be asked about its page.
    fn page_url(&self) -> String {
        let mut found = None;
        eventually("the browser opens the page", || {
            let file = self.profile.join("DevToolsActivePort");
            let text = std::fs::read_to_string(file).unwrap_or_default();
            let port = text.lines().next().and_then(|line| line.parse::<u16>().ok());
            let pages = port.and_then(|port| pages(port).ok()).unwrap_or_default();
            let page = pages.into_iter().find(|page| page["type"] == "page");
            found = page.and_then(|page| Some(page["webSocketDebuggerUrl"].as_str()?.to_owned()));
            found.as_ref().map(drop).ok_or(port)
        });
        found.expect("it is there")
    }
}

/// What the browser has open.
fn pages(port: u16) -> std::io::Result<Vec<Value>> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    write!(stream, "GET /json/list HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n")?;
    let mut answer = String::new();
    // it may leave the connection open after the body
    let length = |text: &str| -> Option<usize> {
        let (head, body) = text.split_once("\r\n\r\n")?;
        let line =
            head.lines().find(|line| line.to_ascii_lowercase().starts_with("content-length"));
        let length: usize = line?.split_once(':')?.1.trim().parse().ok()?;
        (body.len() >= length).then_some(length)
    };
    let mut buffer = [0; 4096];
    while length(&answer).is_none() {
        match stream.read(&mut buffer)? {
            0 => break,
            count => answer.push_str(&String::from_utf8_lossy(&buffer[..count])),
        }
    }
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    Ok(serde_json::from_str(body).unwrap_or_default())
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = kill_process_group(Pid::from_child(&self.child), Signal::KILL);
        let _ = self.child.wait();
        // its other processes may still write while they die
        let deadline = Instant::now() + PATIENCE;
        while self.profile.exists() && Instant::now() < deadline {
            let _ = std::fs::remove_dir_all(&self.profile);
            std::thread::park_timeout(ms(2));
        }
    }
}
