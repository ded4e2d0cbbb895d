//! A page in headless Chromium, from `EVERLINK_CHROMIUM` or `/usr/bin/chromium`.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

/// A browser that shows one page until it is dropped.
pub struct Browser {
    child: Child,
    profile: PathBuf,
}

impl Browser {
    /// Opens the page, which has to be on this machine: the browser finds nothing else. `None` if
    /// there is no browser, which it says. `name` is for the profile's folder.
    pub fn open(url: &str, name: &str) -> Option<Self> {
        let program = std::env::var_os("EVERLINK_CHROMIUM");
        let program = program.map_or(PathBuf::from("/usr/bin/chromium"), PathBuf::from);
        if !program.exists() {
            println!("skipped: {} is not there", program.display());
            return None;
        }
        let profile = format!("everlink-chromium-{}-{name}", std::process::id());
        let profile = std::env::temp_dir().join(profile);
        let child = Command::new(program)
            .args(["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run"])
            .args(["--disable-background-networking", "--disable-component-update"])
            .args(["--disable-sync", "--disable-dev-shm-usage"])
            .arg("--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1")
            .arg(format!("--user-data-dir={}", profile.display()))
            .args(["--remote-debugging-port=0", url])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the browser starts");
        Some(Self { child, profile })
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.profile);
    }
}
