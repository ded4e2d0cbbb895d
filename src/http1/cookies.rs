//! The cookies that a server's answers set, for the next requests of the same client (RFC 6265).
//!
//! They are for load balancers, which find the right machine again by one. So a cookie goes to the
//! very host that has set it, never to the hosts beside it: which of them belong together is known
//! only to whoever has the list of public suffixes.

use std::time::{Duration, Instant, SystemTime};

use http::header::{self, HeaderMap};

use super::{Endpoint, Header, Headers};

/// How many cookies are kept, and how long one may be: as RFC 6265 section 6.1 has it.
const MOST: usize = 50;
const LONGEST: usize = 4096;

/// A longer path is passed over.
const LONGEST_PATH: usize = 1024;

#[derive(Default)]
pub(crate) struct Jar {
    /// The oldest first.
    cookies: Vec<Cookie>,
}

#[derive(Clone, PartialEq, Eq)]
struct Cookie {
    name: String,
    value: String,
    host: String,
    path: String,
    is_secure: bool,
    expires: Option<Instant>,
}

impl Jar {
    /// Keeps what the answer of this endpoint sets, and forgets what it takes back.
    pub(crate) fn store(&mut self, endpoint: &Endpoint, headers: &HeaderMap) {
        for value in headers.get_all(header::SET_COOKIE) {
            let Some(cookie) = value.to_str().ok().and_then(|text| Cookie::parse(text, endpoint))
            else {
                continue;
            };
            self.cookies.retain(|known| !known.is_same(&cookie));
            if cookie.is_over() {
                continue;
            }
            if self.cookies.len() == MOST {
                self.cookies.remove(0);
            }
            self.cookies.push(cookie);
        }
    }

    /// The header with the cookies for an endpoint, after those of the program; none without any. Where
    /// both have one of the same name, it is the program's that is sent. The request may grow by so many
    /// bytes: what does not fit, the oldest first, stays here.
    pub(crate) fn header(
        &self,
        endpoint: &Endpoint,
        headers: &Headers,
        mut room: usize,
    ) -> Option<Header> {
        let own = headers.get(&header::COOKIE).and_then(|value| value.to_str().ok());
        let mut all: Vec<String> = own.into_iter().map(str::to_owned).collect();
        let is_own =
            |name: &str| own.is_some_and(|own| own.split(';').any(|pair| pair_of(pair).0 == name));
        if own.is_none() {
            room = room.saturating_sub("Cookie: \r\n".len());
        }
        let newest_first = self.cookies.iter().rev();
        let mut cookies: Vec<&Cookie> = newest_first
            .filter(|cookie| cookie.is_for(endpoint) && !is_own(&cookie.name))
            .map_while(|cookie| {
                room = room.checked_sub(cookie.name.len() + "=; ".len() + cookie.value.len())?;
                Some(cookie)
            })
            .collect();
        cookies.reverse();
        // section 5.4: the longer path first
        cookies.sort_by_key(|cookie| std::cmp::Reverse(cookie.path.len()));
        all.extend(cookies.iter().map(|cookie| format!("{}={}", cookie.name, cookie.value)));
        Header::new("Cookie", &all.join("; ")).ok().filter(|_| !all.is_empty())
    }
}

fn pair_of(text: &str) -> (&str, &str) {
    let (name, value) = text.split_once('=').unwrap_or((text, ""));
    (name.trim(), value.trim())
}

impl Cookie {
    /// Section 5.2 and 5.3, as far as a cookie of one host goes.
    fn parse(text: &str, endpoint: &Endpoint) -> Option<Self> {
        let mut parts = text.split(';');
        let first = parts.next()?;
        let (name, value) = pair_of(first);
        // without an equals sign it is none (section 5.2, step 2)
        if !first.contains('=') || name.is_empty() || name.len() + value.len() > LONGEST {
            return None;
        }
        let mut cookie = Self {
            name: name.into(),
            value: value.into(),
            host: endpoint.host.to_ascii_lowercase(),
            path: default_path(&endpoint.path).into(),
            is_secure: false,
            expires: None,
        };
        let mut age = None;
        for part in parts {
            let (attribute, value) = pair_of(part);
            match attribute.to_ascii_lowercase().as_str() {
                "path" if value.starts_with('/') && value.len() <= LONGEST_PATH => {
                    cookie.path = value.into();
                }
                "secure" => cookie.is_secure = true,
                "domain" if !is_within(&cookie.host, value) => return None,
                "max-age" => age = max_age(value).or(age),
                "expires" => cookie.expires = until(value).or(cookie.expires),
                _ => {}
            }
        }
        if let Some(age) = age {
            cookie.expires = Instant::now().checked_add(age);
        }
        (endpoint.scheme.is_tls() || !cookie.is_secure).then_some(cookie)
    }

    fn is_same(&self, other: &Self) -> bool {
        (&self.name, &self.host, &self.path) == (&other.name, &other.host, &other.path)
    }

    fn is_over(&self) -> bool {
        self.expires.is_some_and(|end| end <= Instant::now())
    }

    fn is_for(&self, endpoint: &Endpoint) -> bool {
        endpoint.host.eq_ignore_ascii_case(&self.host)
            && (endpoint.scheme.is_tls() || !self.is_secure)
            && is_below(&endpoint.path, &self.path)
            && !self.is_over()
    }
}

/// Section 5.1.4: the folder of the path.
fn default_path(path: &str) -> &str {
    match path.rfind('/') {
        None | Some(0) => "/",
        Some(end) => &path[..end],
    }
}

fn is_below(path: &str, folder: &str) -> bool {
    path.strip_prefix(folder)
        .is_some_and(|rest| rest.is_empty() || folder.ends_with('/') || rest.starts_with('/'))
}

/// Section 5.1.3.
fn is_within(host: &str, domain: &str) -> bool {
    let domain = domain.strip_prefix('.').unwrap_or(domain).to_ascii_lowercase();
    let below = host.strip_suffix(&domain).is_some_and(|rest| rest.ends_with('.'));
    domain.is_empty() || host == domain || below
}

fn max_age(value: &str) -> Option<Duration> {
    let digits = value.strip_prefix('-').unwrap_or(value);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let seconds = if value == digits { digits.parse().unwrap_or(u64::MAX) } else { 0 };
    Some(Duration::from_secs(seconds))
}

const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
const DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];

/// The moment that a date names, however it is written (section 5.1.1). Which day of the week it says is
/// of no interest.
#[allow(
    clippy::disallowed_methods,
    reason = "asked once, and what comes of it is a length of time"
)]
fn until(value: &str) -> Option<Instant> {
    let (mut time, mut day, mut month, mut year) = (None, None, None, None);
    for token in value.split(|c: char| !c.is_ascii_alphanumeric() && c != ':') {
        let is_month =
            |name: &&&str| token.get(..3).is_some_and(|start| start.eq_ignore_ascii_case(name));
        match token.parse::<u16>() {
            Ok(number) if day.is_none() && token.len() <= 2 => day = Some(number),
            Ok(number @ 0..70) => _ = year.get_or_insert(2000 + number),
            Ok(number @ 70..100) => _ = year.get_or_insert(1900 + number),
            Ok(number) => _ = year.get_or_insert(number),
            Err(_) if token.contains(':') => _ = time.get_or_insert(token),
            Err(_) => month = month.or(MONTHS.iter().find(is_month)),
        }
    }
    let rest = format!("{:02} {} {:04} {:0>8} GMT", day?, month?, year?, time?);
    let date = |day: &&str| httpdate::parse_http_date(&format!("{day}, {rest}")).ok();
    let left = DAYS.iter().find_map(date)?.duration_since(SystemTime::now());
    Instant::now().checked_add(left.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(url: &str) -> Endpoint {
        Endpoint::parse(url).unwrap()
    }

    fn set(jar: &mut Jar, url: &str, cookies: &[&str]) {
        let mut headers = HeaderMap::new();
        for cookie in cookies {
            headers.append(header::SET_COOKIE, cookie.parse().unwrap());
        }
        jar.store(&at(url), &headers);
    }

    fn sent(jar: &Jar, url: &str, own: Option<&str>) -> String {
        let mut headers = Headers::default();
        if let Some(own) = own {
            headers.set(Header::new("Cookie", own).unwrap());
        }
        let cookies = jar.header(&at(url), &headers, 64 * 1024);
        cookies.as_ref().map_or("", |header| header.value().to_str().unwrap()).into()
    }

    #[test]
    fn a_cookie_goes_where_it_came_from() {
        let mut jar = Jar::default();
        set(&mut jar, "ws://h:81/a/b", &["id=1", "deep=2; Path=/a/b", "other=3; path=/x"]);
        assert_eq!(sent(&jar, "ws://H/a/b?q", None), "deep=2; id=1");
        assert_eq!(sent(&jar, "ws://h/a", None), "id=1");
        assert_eq!(sent(&jar, "ws://h/ab", None), "");
        assert_eq!(sent(&jar, "ws://h/x/y", None), "other=3");
        assert_eq!(sent(&jar, "ws://x.h/a", None), "");
        assert_eq!(sent(&jar, "ws://h/a", Some("own=9; id=8")), "own=9; id=8");
        set(&mut jar, "ws://h/a/", &["id=4"]);
        assert_eq!(sent(&jar, "ws://h/a/b", None), "deep=2; id=4");
    }

    #[test]
    fn a_cookie_ends_when_it_says() {
        let mut jar = Jar::default();
        set(
            &mut jar,
            "ws://h/",
            &["a=1; Max-Age=100", "b=2; expires=Wed, 09-Jun-2100 10:18:14 GMT"],
        );
        assert_eq!(sent(&jar, "ws://h/", None), "a=1; b=2");
        set(&mut jar, "ws://h/", &["a=; Max-Age=0", "b=; Expires=Thu, 01 Jan 1970 00:00:00 GMT"]);
        assert_eq!(sent(&jar, "ws://h/", None), "");
        // with a year of two digits, in each of the ways that servers write it
        for gone in [
            "Wed, 21-Oct-15 07:28:00 GMT",
            "Wednesday, 21-Oct-15 07:28:00 GMT",
            "Wed Oct 21 7:28:00 2015",
            "21 OCT 2015 07:28:00",
        ] {
            set(&mut jar, "ws://h/", &["a=1"]);
            set(&mut jar, "ws://h/", &[&format!("a=2; Expires={gone}")]);
            assert_eq!(sent(&jar, "ws://h/", None), "", "{gone}");
        }
        set(&mut jar, "ws://h/", &["a=1; Expires=Mon, 09-Jun-69 10:18:14 GMT"]);
        assert_eq!(sent(&jar, "ws://h/", None), "a=1");
        set(&mut jar, "ws://h/", &["a=; Max-Age=0", "d=1; Expires=31 Feb 2015 00:00:00"]);
        assert_eq!(sent(&jar, "ws://h/", None), "d=1", "no date at all");
        set(&mut jar, "ws://h/", &["d=; Max-Age=0"]);
        set(&mut jar, "ws://h/", &["a=1; Max-Age=-5", "c=3; Max-Age=99999999999999999999999"]);
        assert_eq!(sent(&jar, "ws://h/", None), "c=3");
    }

    #[test]
    fn the_newest_fit_into_the_request() {
        let mut jar = Jar::default();
        for number in 0..50 {
            set(&mut jar, "ws://h/", &[&format!("n{number:02}={}", "x".repeat(4000))]);
        }
        set(&mut jar, "ws://h/", &[&format!("p=1; Path=/{}", "x".repeat(2000))]);
        for own in [None, Some("own=1")] {
            let mut headers = Headers::default();
            if let Some(own) = own {
                headers.set(Header::new("Cookie", own).unwrap());
            }
            let written = |headers: &Headers| {
                let mut lines = Vec::new();
                headers.write(&mut lines);
                lines.len()
            };
            let (room, before) = (34_000, written(&headers));
            let header = jar.header(&at("ws://h/"), &headers, room).unwrap();
            let cookies = header.value().to_str().unwrap().to_owned();
            headers.set(header);
            let left = room - (written(&headers) - before);
            assert!((2..4100).contains(&left), "{left} bytes left");
            assert!(
                cookies.ends_with("p=1") && cookies.contains("n49=") && !cookies.contains("n20=")
            );
            // none of the jar's where there is no room at all
            let mut headers = Headers::default();
            if let Some(own) = own {
                headers.set(Header::new("Cookie", own).unwrap());
            }
            let header = jar.header(&at("ws://h/"), &headers, 4);
            assert_eq!(header.as_ref().map(|header| header.value().to_str().unwrap()), own);
        }
    }

    #[test]
    fn what_must_not_be_kept_is_not() {
        let mut jar = Jar::default();
        set(
            &mut jar,
            "ws://h/",
            &[
                "s=1; Secure",
                "=1",
                "",
                "bad",
                "bad; x=1",
                "d=1; Domain=elsewhere",
                "ok=1; Domain=h",
            ],
        );
        assert_eq!(sent(&jar, "wss://h/", None), "ok=1");
        set(&mut jar, "wss://h/", &["s=2; Secure"]);
        assert_eq!(sent(&jar, "wss://h/", None), "ok=1; s=2");
        assert_eq!(sent(&jar, "ws://h/", None), "ok=1");
        let mut jar = Jar::default();
        set(&mut jar, "ws://h/", &[&format!("long={}", "x".repeat(5000))]);
        for number in 0..1000 {
            set(&mut jar, "ws://h/", &[&format!("n{number}=1")]);
        }
        assert_eq!(jar.cookies.len(), MOST);
        assert!(sent(&jar, "ws://h/", None).ends_with("n999=1"));
    }
}
