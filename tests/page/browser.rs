//! Chromium, driven through chromedriver: WebDriver's calls as JSON over HTTP.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use minreq::Method;
use serde_json::{Value, json};

/// Nothing here takes longer, unless it hangs.
const PATIENCE: Duration = Duration::from_secs(60);
/// WebDriver's name for the key of an element's reference.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// A headless browser with one page; it ends when dropped.
pub struct Browser {
    driver: Child,
    session: String,
    /// Read to the end, or the driver would block on a full pipe.
    _said: BufReader<ChildStdout>,
    _profile: tempfile::TempDir,
}

/// Keys that have no letter, as WebDriver writes them.
pub mod key {
    pub const ENTER: &str = "\u{e007}";
    pub const ESCAPE: &str = "\u{e00c}";
    pub const TAB: &str = "\u{e004}";
    pub const LEFT: &str = "\u{e012}";
    pub const UP: &str = "\u{e013}";
    pub const RIGHT: &str = "\u{e014}";
    pub const DOWN: &str = "\u{e015}";
    pub const PAGE_DOWN: &str = "\u{e00f}";
}

impl Browser {
    /// Starts it without a profile, and opens a file. `theme` is what the system prefers.
    pub fn open(page: &Path, theme: &str) -> Browser {
        let profile = tempfile::tempdir().expect("a directory for the profile");
        let mut driver = Command::new("chromedriver")
            .arg("--port=0")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("chromedriver starts");
        let mut said = BufReader::new(driver.stdout.take().expect("a pipe"));
        let port = port(&mut said);
        let mut browser = Browser {
            driver,
            session: format!("http://127.0.0.1:{port}/session"),
            _said: said,
            _profile: profile,
        };
        browser.begin();
        let media = json!({"features": [{"name": "prefers-color-scheme", "value": theme}]});
        browser.devtools("Emulation.setEmulatedMedia", &media);
        browser.visit(page);
        browser
    }

    /// Gives the page as many pixels.
    pub fn resize(&self, width: u32, height: u32) {
        let size =
            json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false});
        self.devtools("Emulation.setDeviceMetricsOverride", &size);
        self.settle();
    }

    /// Opens another file, or the same once more.
    pub fn visit(&self, page: &Path) {
        let url = format!("file://{}", page.display());
        self.call(Method::Post, "/url", &json!({"url": url}));
        self.wait_for("return document.documentElement.dataset.readyMs !== undefined");
    }

    fn begin(&mut self) {
        let mut arguments: Vec<String> = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--window-size=1280,1000",
        ]
        .map(String::from)
        .into();
        arguments.push(format!(
            "--user-data-dir={}",
            self._profile.path().display()
        ));
        let wanted = json!({"capabilities": {"alwaysMatch": {
            "goog:loggingPrefs": {"browser": "ALL"},
            "goog:chromeOptions": {"args": arguments},
        }}});
        let session = self.call(Method::Post, "", &wanted);
        let id = session["sessionId"].as_str().expect("a session has a name");
        self.session = format!("{}/{id}", self.session);
    }

    fn call(&self, method: Method, path: &str, body: &Value) -> Value {
        let mut request = minreq::Request::new(method.clone(), format!("{}{path}", self.session))
            .with_timeout(PATIENCE.as_secs());
        if matches!(method, Method::Post) {
            request = request
                .with_header("Content-Type", "application/json")
                .with_body(body.to_string());
        }
        let answer = request
            .send()
            .unwrap_or_else(|error| panic!("{path}: {error}"));
        let text = answer.as_str().expect("JSON is text");
        let answer: Value =
            serde_json::from_str(text).unwrap_or_else(|error| panic!("{path}: {error}: {text}"));
        assert!(
            answer["value"]["error"].is_null(),
            "{path} {body}: {}",
            answer["value"]
        );
        answer["value"].clone()
    }

    fn devtools(&self, command: &str, parameters: &Value) {
        let call = json!({"cmd": command, "params": parameters});
        self.call(Method::Post, "/goog/cdp/execute", &call);
    }

    /// Runs a script in the page and gives what it returns.
    pub fn run(&self, script: &str) -> Value {
        self.call(
            Method::Post,
            "/execute/sync",
            &json!({"script": script, "args": []}),
        )
    }

    /// Runs a script that returns a text.
    pub fn text(&self, script: &str) -> String {
        let value = self.run(script);
        let text = value
            .as_str()
            .unwrap_or_else(|| panic!("{script}: {value}"));
        text.to_owned()
    }

    /// Waits until a script returns true.
    pub fn wait_for(&self, script: &str) {
        let started = Instant::now();
        while self.run(script) != json!(true) {
            assert!(started.elapsed() < PATIENCE, "never so: {script}");
        }
    }

    /// Waits until the page has drawn what was asked for last.
    pub fn settle(&self) {
        let twice = "const done = arguments[0]; requestAnimationFrame(() => requestAnimationFrame(() => done(true)))";
        self.call(
            Method::Post,
            "/execute/async",
            &json!({"script": twice, "args": []}),
        );
    }

    fn find(&self, selector: &str) -> String {
        let found = self.call(
            Method::Post,
            "/element",
            &json!({"using": "css selector", "value": selector}),
        );
        found[ELEMENT].as_str().expect("a reference").to_owned()
    }

    /// Clicks on an element.
    pub fn click(&self, selector: &str) {
        let element = self.find(selector);
        self.call(
            Method::Post,
            &format!("/element/{element}/click"),
            &json!({}),
        );
        self.settle();
    }

    /// Clicks at a place within an element, in pixels from its upper left corner.
    pub fn click_at(&self, selector: &str, x: i64, y: i64) {
        self.run(&format!(
            "document.querySelector({selector:?}).scrollIntoView({{block: 'center'}})"
        ));
        let corner = self.run(&format!(
            "const box = document.querySelector({selector:?}).getBoundingClientRect(); return [box.left, box.top]"
        ));
        let at = |index: usize, offset| corner[index].as_f64().expect("a number") as i64 + offset;
        let moves = json!([
            {"type": "pointerMove", "duration": 0, "x": at(0, x), "y": at(1, y)},
            {"type": "pointerDown", "button": 0},
            {"type": "pointerUp", "button": 0},
        ]);
        self.act(&json!({"type": "pointer", "id": "mouse", "actions": moves}));
    }

    /// Presses keys one after the other, wherever the focus is.
    pub fn press(&self, keys: &[&str]) {
        let strokes: Vec<Value> = keys
            .iter()
            .flat_map(|key| {
                [
                    json!({"type": "keyDown", "value": key}),
                    json!({"type": "keyUp", "value": key}),
                ]
            })
            .collect();
        self.act(&json!({"type": "key", "id": "keys", "actions": strokes}));
    }

    /// Types a text, wherever the focus is.
    pub fn type_text(&self, text: &str) {
        let letters: Vec<String> = text.chars().map(String::from).collect();
        let letters: Vec<&str> = letters.iter().map(String::as_str).collect();
        self.press(&letters);
    }

    fn act(&self, action: &Value) {
        self.call(Method::Post, "/actions", &json!({"actions": [action]}));
        self.settle();
    }

    /// Gives what the console says, and which requests were made beside that for the page.
    pub fn complaints(&self) -> Vec<String> {
        let log = self.call(Method::Post, "/se/log", &json!({"type": "browser"}));
        let lines = log.as_array().expect("a list").iter().map(Value::to_string);
        let requests =
            self.run("return performance.getEntriesByType('resource').map((entry) => entry.name)");
        let requests = requests
            .as_array()
            .expect("a list")
            .iter()
            .map(|name| format!("request: {name}"));
        lines.chain(requests).collect()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Ends the browser; the driver itself would leave it behind.
        let _ = minreq::delete(self.session.as_str())
            .with_timeout(PATIENCE.as_secs())
            .send();
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}

/// Reads which port the driver has chosen.
fn port(said: &mut impl BufRead) -> u16 {
    let mut line = String::new();
    loop {
        line.clear();
        let length = said.read_line(&mut line).expect("chromedriver speaks");
        assert!(length > 0, "chromedriver ended");
        let rest = line.trim_end().trim_end_matches('.');
        if let Some((_, port)) = rest.split_once("successfully on port ") {
            return port.parse().expect("a port is a number");
        }
    }
}
