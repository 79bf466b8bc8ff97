//! Calls of operations.
use super::scripted::{Scripted, cut, endless};
use super::*;
use backupengine_api::{Empty, op};
use std::collections::BTreeSet;
use std::time::Instant;

fn refusal(error: &TransferError) -> &crate::Refusal {
    match error {
        TransferError::Refused(refusal) => refusal,
        other => panic!("no refusal: {}", told(other)),
    }
}

#[test]
fn the_clock_is_corrected_once() {
    let date = ("date", "Sun, 06 Nov 1994 08:49:37 GMT");
    let server = Scripted::start(move |seen| match seen.nth {
        0 => refused_with(Code::ClockSkew, &[date]),
        _ => usage(),
    });
    let account = account(&server.base);
    account.call::<op::Usage>(&Empty {}).unwrap();
    account.call::<op::Usage>(&Empty {}).unwrap();
    let created: Vec<i64> = server.seen().iter().map(|seen| seen.param("created").parse().unwrap()).collect();
    assert_eq!(created.len(), 3);
    assert!((created[0] - seconds()).abs() < 60);
    assert!(created[1..].iter().all(|time| (time - 784_111_777).abs() < 60), "{created:?}");
}

#[test]
fn a_server_that_always_finds_the_clock_wrong_is_asked_twice() {
    for (date, asked) in [("Sun, 06 Nov 1994 08:49:37 GMT", 2), ("yesterday", 1)] {
        let server = Scripted::start(move |_| refused_with(Code::ClockSkew, &[("date", date)]));
        let error = account(&server.base).call::<op::Usage>(&Empty {}).unwrap_err();
        assert_eq!((refusal(&error).known(), server.seen().len()), (Some(Code::ClockSkew), asked));
    }
}

#[test]
fn what_may_pass_is_repeated_with_a_new_nonce_and_the_same_body() {
    let server = Scripted::start(|seen| match seen.nth {
        0 => refused(Code::Unavailable),
        1 => cut(),
        2 => answer(502, &[], b"<html>"),
        _ => usage(),
    });
    let account = account(&server.base);
    account.call::<op::Usage>(&Empty {}).unwrap();
    let seen = server.seen();
    assert_eq!((seen.len(), account.calls().as_slice()), (4, ["usage"; 4].as_slice()));
    assert_eq!(seen.iter().map(|seen| seen.param("nonce")).collect::<BTreeSet<_>>().len(), 4);
    assert!(seen.iter().all(|other| other.body == seen[0].body && other.method == "POST"));
}

#[test]
fn a_refusal_is_final() {
    let others =
        [Code::TokenExpired, Code::BadToken, Code::ClockSkew, Code::SessionEnded, Code::TooManyRequests];
    let final_ones: Vec<Code> =
        Code::ALL.iter().copied().filter(|code| code.status() < 500 && !others.contains(code)).collect();
    let asked = final_ones.clone();
    let server = Scripted::start(move |seen| refused(asked[seen.nth]));
    let account = account(&server.base);
    for (count, code) in (1..).zip(final_ones) {
        let error = account.call::<op::Usage>(&Empty {}).unwrap_err();
        let refusal = refusal(&error);
        assert_eq!((refusal.known(), refusal.status), (Some(code), code.status()));
        assert_eq!((refusal.hint.as_deref(), server.seen().len()), (Some("ask"), count), "{code:?}");
    }
}

#[test]
fn a_busy_server_says_when_to_come_back() {
    let server = Scripted::start(|seen| match seen.nth {
        0 => refused_with(Code::TooManyRequests, &[("retry-after", "1")]),
        _ => usage(),
    });
    let begun = Instant::now();
    account(&server.base).call::<op::Usage>(&Empty {}).unwrap();
    assert!(begun.elapsed() >= Duration::from_secs(1), "it came back too early");
    assert_eq!(server.seen().len(), 2);
}

#[test]
fn nobody_waits_longer_than_a_call_may_take() {
    let server = Scripted::start(|_| refused_with(Code::TooManyRequests, &[("retry-after", "86400")]));
    let error = account(&server.base).call::<op::Usage>(&Empty {}).unwrap_err();
    assert_eq!((refusal(&error).known(), server.seen().len()), (Some(Code::TooManyRequests), 1));
}

#[test]
fn a_server_that_is_not_there_is_unreachable() {
    let base = Scripted::start(|_| cut()).base.clone();
    let account = account_at(&base, &Noted::good(), Duration::from_millis(300));
    let error = account.call::<op::Usage>(&Empty {}).unwrap_err();
    assert!(matches!(error, TransferError::Unreachable { .. }), "{}", told(&error));
    assert!(told(&error).contains("127.0.0.1"));
    assert!(account.calls().len() > 1, "it was not tried again");
}

#[test]
fn what_is_no_answer_is_not_shown() {
    let texts = [format!("{SECRET} <html>"), format!("{{\"used\": \"{SECRET}\"}}"), String::new()];
    for text in texts {
        let server = Scripted::start(move |_| answer(200, &[], text.as_bytes()));
        let error = account(&server.base).call::<op::Usage>(&Empty {}).unwrap_err();
        assert!(matches!(error, TransferError::BadAnswer { .. }), "{}", told(&error));
        assert_eq!(server.seen().len(), 1);
    }
}

#[test]
fn another_address_is_not_followed() {
    let server =
        Scripted::start(|seen| answer(307, &[("location", &format!("{}/elsewhere", seen.base))], b""));
    let error = account(&server.base).call::<op::Usage>(&Empty {}).unwrap_err();
    assert!(matches!(error, TransferError::BadAnswer { .. }), "{}", told(&error));
    assert_eq!(server.seen().len(), 1);
}

#[test]
fn an_answer_without_end_is_cut_off() {
    for status in [200, 403] {
        let server = Scripted::start(move |_| endless(status));
        let error = account(&server.base).call::<op::Usage>(&Empty {}).unwrap_err();
        assert!(told(&error).contains("too long"), "{}", told(&error));
        assert_eq!(server.seen().len(), 1);
    }
}

#[test]
fn a_refusal_does_not_fill_the_screen() {
    let body = json!({"code": "role_denied", "message": "\u{1b}[2J no ".repeat(100_000), "hint": "a\nb"});
    let server = Scripted::start(move |_| answer(403, &[], body.to_string().as_bytes()));
    let error = account(&server.base).call::<op::Usage>(&Empty {}).unwrap_err();
    let refusal = refusal(&error);
    assert!(refusal.message.len() < 4096 && !refusal.to_string().contains('\u{1b}'));
    assert!(!refusal.hint.as_ref().unwrap().contains('\n'));
    assert_eq!(refusal.known(), Some(Code::RoleDenied));
}

#[test]
fn what_is_printed_of_an_account_is_no_secret() {
    let server = Scripted::start(|_| mounted(&[pack_grant(&format!("http://127.0.0.1/?{SECRET}"))]));
    let (_folder, store) = store(&server.base, 1);
    let text = format!("{:?} {store:?} {:?} {:?}", store.account(), store.mounted(), tokens("x", 1));
    assert!(!text.contains(SECRET));
    assert!(text.contains("127.0.0.1"));
}
