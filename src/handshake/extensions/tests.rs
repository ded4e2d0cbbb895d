use super::*;
use proptest::prelude::*;

fn headers(values: &[&str]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for value in values {
        let value = HeaderValue::from_str(value).unwrap();
        headers.append(header::SEC_WEBSOCKET_EXTENSIONS, value);
    }
    headers
}

fn agreed(send: (bool, u8), receive: (bool, u8)) -> AgreedCompression {
    AgreedCompression {
        send_takeover: send.0,
        receive_takeover: receive.0,
        send_window_bits: send.1,
        receive_window_bits: receive.1,
    }
}

const FULL: (bool, u8) = (true, 15);

#[test]
fn an_offer_says_what_is_wanted() {
    assert_eq!(offer(&Compression::new()), "permessage-deflate; client_max_window_bits");
    let lean = Compression::new()
        .no_send_takeover()
        .no_receive_takeover()
        .send_window_bits(9)
        .receive_window_bits(10);
    assert_eq!(
        offer(&lean),
        "permessage-deflate; server_no_context_takeover; client_no_context_takeover; \
         server_max_window_bits=10; client_max_window_bits=9"
    );
}

#[test]
fn what_a_server_answers_is_what_holds() {
    let all = Compression::new();
    let few = Compression::new().no_send_takeover().send_window_bits(12);
    for (answer, compression, expected) in [
        ("permessage-deflate", &all, agreed(FULL, FULL)),
        ("Permessage-Deflate ; Server_Max_Window_Bits = 8", &all, agreed(FULL, (true, 8))),
        ("permessage-deflate; server_no_context_takeover", &all, agreed(FULL, (false, 15))),
        ("permessage-deflate; client_no_context_takeover", &all, agreed((false, 15), FULL)),
        ("permessage-deflate; server_max_window_bits=9", &all, agreed(FULL, (true, 9))),
        ("permessage-deflate; client_max_window_bits=\"10\"", &all, agreed((true, 10), FULL)),
        // which cannot be compressed with, so nothing is
        ("permessage-deflate;client_max_window_bits=8", &all, agreed((true, 8), FULL)),
        ("permessage-deflate", &few, agreed((false, 12), FULL)),
        ("permessage-deflate; client_max_window_bits=15", &few, agreed((false, 12), FULL)),
        (", permessage-deflate,", &all, agreed(FULL, FULL)),
    ] {
        let answered = answered(&headers(&[answer]), Some(compression));
        assert_eq!(answered, Ok(Some(expected)), "{answer:?}");
    }
    for none in [&[][..], &[""], &[", ,", ""]] {
        assert_eq!(answered(&headers(none), Some(&all)), Ok(None));
        assert_eq!(answered(&headers(none), None), Ok(None));
    }
}

#[test]
fn an_answer_that_was_not_asked_for_is_wrong() {
    let all = Compression::new();
    let strict = Compression::new().no_receive_takeover().receive_window_bits(10);
    const BITS: &str = "permessage-deflate; server_no_context_takeover; server_max_window_bits=";
    for (answer, compression, word) in [
        (&["permessage-deflate"][..], None, "\"permessage-deflate\" was not asked for"),
        (&["x-webkit-deflate-frame"], Some(&all), "\"x-webkit-deflate-frame\" was not asked for"),
        (&["permessage-deflate, foo"], Some(&all), "\"foo\" was not asked for"),
        (&["permessage-deflate", "foo"], Some(&all), "\"foo\" was not asked for"),
        (&["permessage-deflate, permessage-deflate"], Some(&all), "more than once"),
        (&["permessage-deflate", "permessage-deflate"], Some(&all), "more than once"),
        (&["permessage-deflate; foo=1"], Some(&all), "\"foo\", which is unknown"),
        (
            &["permessage-deflate; server_max_window_bits=9; server_max_window_bits=9"],
            Some(&all),
            "\"server_max_window_bits\" twice",
        ),
        (
            &["permessage-deflate; server_no_context_takeover=1"],
            Some(&all),
            "wrong value of server_no_context_takeover",
        ),
        (
            &["permessage-deflate; server_max_window_bits"],
            Some(&all),
            "wrong value of server_max_window_bits",
        ),
        (&["permessage-deflate; client_max_window_bits"], Some(&all), "without a number"),
        (&["permessage-deflate; client_max_window_bits=7"], Some(&all), "wrong value"),
        (&["permessage-deflate; client_max_window_bits=16"], Some(&all), "wrong value"),
        (&["permessage-deflate; client_max_window_bits=09"], Some(&all), "wrong value"),
        (&["permessage-deflate; client_max_window_bits=+9"], Some(&all), "wrong value"),
        (&["permessage-deflate; server_max_window_bits=10"], Some(&strict), "asked for"),
        (&[&format!("{BITS}11")], Some(&strict), "11 bits where 10"),
        (&["permessage-deflate; server_no_context_takeover"], Some(&strict), "15 bits where 10"),
        (&["permessage-deflate;"], Some(&all), "cannot be read"),
        (&["permessage-deflate foo"], Some(&all), "cannot be read"),
        (&["permessage-deflate; a=\"b"], Some(&all), "cannot be read"),
        (&["permessage-deflate; a=\"b c\""], Some(&all), "cannot be read"),
    ] {
        let error = answered(&headers(answer), compression).unwrap_err();
        assert!(error.contains(word), "{answer:?}: {error:?} does not say {word:?}");
    }
    let answer = headers(&[&format!("{BITS}9")]);
    assert_eq!(answered(&answer, Some(&strict)), Ok(Some(agreed(FULL, (false, 9)))));
}

#[test]
fn the_first_offer_that_can_be_accepted_is() {
    let all = Compression::new();
    let narrow = Compression::new().receive_window_bits(10).send_window_bits(11);
    let lean = Compression::new().no_receive_takeover().no_send_takeover();
    for (offers, compression, expected) in [
        (&["permessage-deflate"][..], &all, Some(("permessage-deflate", agreed(FULL, FULL)))),
        // as browsers do it
        (
            &["permessage-deflate; client_max_window_bits"],
            &all,
            Some(("permessage-deflate", agreed(FULL, FULL))),
        ),
        (
            &["permessage-deflate; client_max_window_bits"],
            &narrow,
            Some((
                "permessage-deflate; server_max_window_bits=11; client_max_window_bits=10",
                agreed((true, 11), (true, 10)),
            )),
        ),
        (
            &["permessage-deflate; client_max_window_bits=8"],
            &narrow,
            Some((
                "permessage-deflate; server_max_window_bits=11; client_max_window_bits=8",
                agreed((true, 11), (true, 8)),
            )),
        ),
        // it cannot limit its window
        (&["permessage-deflate"], &narrow, None),
        (
            &["permessage-deflate"],
            &lean,
            Some((
                "permessage-deflate; server_no_context_takeover; client_no_context_takeover",
                agreed((false, 15), (false, 15)),
            )),
        ),
        (
            &["permessage-deflate; server_no_context_takeover; client_no_context_takeover"],
            &all,
            Some((
                "permessage-deflate; server_no_context_takeover; client_no_context_takeover",
                agreed((false, 15), (false, 15)),
            )),
        ),
        // nothing can be compressed with that here, so the fallback is taken
        (
            &["permessage-deflate; server_max_window_bits=8, permessage-deflate"],
            &all,
            Some(("permessage-deflate", agreed(FULL, FULL))),
        ),
        (&["permessage-deflate; server_max_window_bits=8"], &all, None),
        (
            &[
                "foo; bar=\"x\", permessage-deflate; foo",
                "permessage-deflate; server_max_window_bits=9",
            ],
            &all,
            Some(("permessage-deflate; server_max_window_bits=9", agreed((true, 9), FULL))),
        ),
        (
            &["permessage-deflate; server_max_window_bits=15"],
            &all,
            Some(("permessage-deflate; server_max_window_bits=15", agreed(FULL, FULL))),
        ),
        // the first one offers something twice
        (
            &["permessage-deflate; client_max_window_bits; client_max_window_bits=10, \
               permessage-deflate; server_no_context_takeover"],
            &all,
            Some(("permessage-deflate; server_no_context_takeover", agreed((false, 15), FULL))),
        ),
        (&["permessage-deflate; server_max_window_bits"], &all, None),
        (&["permessage-deflate; client_no_context_takeover=true"], &all, None),
        (&["permessage-deflate; server_max_window_bits=16"], &all, None),
        (&["x-webkit-deflate-frame"], &all, None),
        (&[""], &all, None),
    ] {
        let chosen = choose(&headers(offers), Some(compression), false).unwrap();
        let expected = expected.map(|(answer, agreed)| (answer.to_owned(), agreed));
        assert_eq!(chosen, expected, "{offers:?}");
    }
}

#[test]
fn the_client_of_a_session_keeps_no_context_even_unasked() {
    let offers = headers(&["permessage-deflate; client_max_window_bits"]);
    let (answer, agreed_on) = choose(&offers, Some(&Compression::new()), true).unwrap().unwrap();
    assert_eq!(answer, "permessage-deflate; client_no_context_takeover");
    assert_eq!(agreed_on, agreed(FULL, (false, 15)));
}

#[test]
fn nothing_is_read_where_nothing_is_compressed() {
    let offers = headers(&["permessage-deflate", ";"]);
    assert_eq!(choose(&offers, None, false), Ok(None));
    assert!(choose(&offers, Some(&Compression::new()), false).is_err());
}

proptest! {
    /// Whatever both sides want, they agree on the same, or on nothing.
    #[test]
    fn client_and_server_agree(
        client in (any::<[bool; 2]>(), 9..=15_u8, 9..=15_u8),
        server in (any::<[bool; 2]>(), 9..=15_u8, 9..=15_u8),
        is_session in any::<bool>(),
    ) {
        let wish = |([send, receive], send_bits, receive_bits): ([bool; 2], _, _)| {
            let mut wish = Compression::new();
            (wish.send_takeover, wish.receive_takeover) = (send, receive);
            wish.send_window_bits(send_bits).receive_window_bits(receive_bits)
        };
        let (client, server) = (wish(client), wish(server));
        let offer = offer(&client);
        let (answer, theirs) =
            choose(&headers(&[&offer]), Some(&server), is_session).unwrap().unwrap();
        let ours = answered(&headers(&[&answer]), Some(&client)).unwrap().unwrap();
        prop_assert!(ours.send_window_bits <= theirs.receive_window_bits);
        prop_assert!(theirs.send_window_bits <= ours.receive_window_bits);
        prop_assert!(!ours.send_takeover || theirs.receive_takeover);
        prop_assert!(!theirs.send_takeover || ours.receive_takeover);
        // the token stays alone: the client's next messages cannot refer to it
        prop_assert!(!is_session || !(ours.send_takeover || theirs.receive_takeover));
        prop_assert_eq!(theirs.send_takeover, server.send_takeover && client.receive_takeover);
        for agreed in [ours, theirs] {
            prop_assert!(agreed.can_send());
        }
        prop_assert!(theirs.receive_window_bits <= server.receive_bits);
        prop_assert!(ours.receive_window_bits <= client.receive_bits);
    }

    #[test]
    fn arbitrary_headers_are_no_panic(value in "[ -~]{0,60}|(permessage-deflate|[;,=\"\\\\ ]|server_max_window_bits|9){0,12}") {
        let headers = headers(&[&value]);
        let compression = Compression::new();
        let _ = answered(&headers, Some(&compression));
        let _ = choose(&headers, Some(&compression), false);
    }
}
