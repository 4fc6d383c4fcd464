//! Lists of objects: one that cannot be understood is an error, and never a short one.

use std::path::Path;

use calve_store::{Error, Kind, Listed};

use crate::server::{Server, plain};

/// A page of a list of these keys.
fn page(keys: &[String], token: Option<&str>) -> String {
    let entry = |key: &String| {
        format!("<Contents><Key>{key}</Key><ETag>\"t\"</ETag><Size>1</Size></Contents>")
    };
    let entries: String = keys.iter().map(entry).collect();
    let token =
        token.map(|token| format!("<NextContinuationToken>{token}</NextContinuationToken>"));
    format!(
        "<ListBucketResult><IsTruncated>{}</IsTruncated>{}{entries}</ListBucketResult>",
        token.is_some(),
        token.unwrap_or_default()
    )
}

type Made = fn() -> String;

#[test]
fn a_list_that_lies_ends_and_is_an_error() {
    let cases: [(&str, Made); 7] = [
        ("the same page for ever", || page(&["k1".into()], Some("t"))),
        ("nothing for ever", || page(&[], Some("t"))),
        ("out of order", || page(&["k2".into(), "k1".into()], None)),
        ("no token", || page(&["k1".into()], Some("t")).replace("NextContinuationToken", "Other")),
        ("no list", || "<html><body>Welcome</body></html>".into()),
        ("a part of a page", || page(&["k1".into()], None).replace("</L", "<L")),
        ("no number", || page(&["k1".into()], None).replace(">1<", ">much<")),
    ];
    for (what, answer) in cases {
        let server = Server::new(move |_, _| plain("200 OK", "", &answer()));
        let mut listed = server.list("s3://b");
        let error = listed.pop().expect("a failure").expect_err(what);
        assert_eq!(error.kind, Kind::NoList, "{what}: {error}");
        assert!(server.requests() <= 1000, "{what}: {}", server.requests());
        assert!(listed.iter().all(Result::is_ok), "{what}");
    }
    // Objects that lie elsewhere than was asked.
    let server = Server::new(|_, _| plain("200 OK", "", &page(&["other/k".into()], None)));
    let error = server.list("s3://b/dir").pop().expect("a failure").expect_err("elsewhere");
    assert_eq!(error.kind, Kind::NoList, "{error}");
    // One page after the other, of a server that fails now and then.
    let server = Server::new(|request, number| {
        if number % 3 == 1 {
            return plain("503 Slow", "", "");
        }
        match request.line.contains("continuation-token=a%26b") {
            true => plain("200 OK", "", &page(&["k2".into()], None)),
            false => plain("200 OK", "", &page(&["k1".into()], Some("a&amp;b"))),
        }
    });
    let listed = server.list("s3://b");
    let names: Vec<String> = listed
        .iter()
        .map(|it| it.as_ref().expect("an object").path.display().to_string())
        .collect();
    assert_eq!(names, ["s3://b/k1", "s3://b/k2"]);
}

/// What a store lists that answers each request with this.
fn listed(text: &str) -> (Vec<Result<Listed, Error>>, Server) {
    let text = text.to_owned();
    let server = Server::new(move |_, _| plain("200 OK", "", &text));
    (server.list("s3://b"), server)
}

#[test]
fn a_list_may_lack_what_it_need_not_have_and_have_what_nobody_knows() {
    let names = |text: &str| -> Vec<String> {
        let all = listed(text).0.into_iter();
        all.map(|it| it.expect(text).path.display().to_string()).collect()
    };
    let whole = "<?xml version=\"1.0\"?><!-- a list --><ListBucketResult><IsTruncated>false\
        </IsTruncated><Contents><Key>a</Key><Size>1</Size></Contents></ListBucketResult>";
    // No KeyCount, Name, Prefix, MaxKeys; no tags and times of objects.
    assert_eq!(names(whole), ["s3://b/a"]);
    for (what, one, other) in [
        ("unknown tags", "<Contents>", "<New><Key>x</Key></New><Contents><New><Key>x</Key></New>"),
        ("unknown tags behind", "</Contents>", "<A/><Key2>y</Key2></Contents><B/>"),
        ("another space of names", "<ListBucketResult>", "<ListBucketResult xmlns=\"urn:x\">"),
        ("nothing to go on with", "<Contents>", "<NextContinuationToken/><Contents>"),
        ("other letters and blanks", ">false<", "> False\n<"),
        ("a wrong number", "<Contents>", "<KeyCount>7</KeyCount><Contents>"),
    ] {
        assert_eq!(names(&whole.replace(one, other)), ["s3://b/a"], "{what}");
    }
    let empty = "<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>";
    assert_eq!(names(empty), [""; 0]);
    // Keys in every way of writing them.
    for (key, name) in [
        ("a&amp;b&lt;&#x61;&#228;", "a&b<a\u{e4}"),
        ("<![CDATA[a&amp;b]]>", "a&amp;b"),
        (" a ", " a "),
        ("a%20b+c", "a%20b+c"),
    ] {
        let key = format!("<Key>{key}</Key>");
        assert_eq!(names(&whole.replace("<Key>a</Key>", &key)), [format!("s3://b/{name}")]);
    }
    // It says so behind the keys.
    let escaped = whole.replace("<Key>a</Key>", "<Key>a%20b+c%2B&#37;26</Key>");
    let escaped = escaped.replace("</List", "<EncodingType>url</EncodingType></List");
    assert_eq!(names(&escaped), ["s3://b/a b c+&"]);
}

#[test]
fn a_token_alone_says_that_a_list_goes_on() {
    let server = Server::new(|request, _| {
        let is_first = !request.line.contains("continuation-token=t");
        let text = page(&[if is_first { "k1" } else { "k2" }.into()], is_first.then_some("t"));
        plain("200 OK", "", &text.replace("<IsTruncated>true</IsTruncated>", ""))
    });
    let names = server.list("s3://b").into_iter();
    let names: Vec<_> = names.map(|it| it.expect("an object").path).collect();
    assert_eq!(names, [Path::new("s3://b/k1"), Path::new("s3://b/k2")]);
}

#[test]
fn a_list_that_cannot_be_understood_is_never_a_short_one() {
    let whole = "<ListBucketResult><IsTruncated>false</IsTruncated><Contents><Key>a</Key>\
        <Size>1</Size></Contents></ListBucketResult>";
    for (one, other, rule) in [
        ("<IsTruncated>false</IsTruncated>", "", "IsTruncated"),
        ("false", "no", "IsTruncated"),
        ("<IsTruncated>false</IsTruncated>", "<IsTruncated/>", "IsTruncated"),
        ("false", "true", "NextContinuationToken"),
        (
            "false</IsTruncated>",
            "true</IsTruncated><NextContinuationToken/>",
            "NextContinuationToken",
        ),
        ("<Contents>", "<Contents/><Contents>", "has a Key"),
        ("<Contents>", "<Contents></Contents><Contents>", "has a Key"),
        ("<Key>a</Key>", "", "has a Key"),
        ("<Key>a</Key>", "<Key/>", "has a Key"),
        ("<Size>1</Size>", "", "Size"),
        ("<Size>1</Size>", "<Size/>", "Size"),
        ("<Size>1</Size>", "<Size>-1</Size>", "Size"),
        ("<Key>a</Key>", "<Key>&unknown;</Key>", "a whole document"),
        ("<Key>a</Key>", "<Key>%FF</Key>", "escaped"),
        ("</ListBucketResult>", "", "a whole document"),
        ("ListBucketResult", "ListAllMyBucketsResult", "a ListBucketResult"),
    ] {
        let text =
            whole.replace(one, other).replace("</List", "<EncodingType>url</EncodingType></List");
        let (mut all, server) = listed(&text);
        let error = all.pop().expect("a failure").expect_err(&text);
        assert_eq!((error.kind, server.requests()), (Kind::NoList, 1), "{text}: {error}");
        let said = error.to_string();
        for part in ["s3://b: ", &*server.address, rule] {
            assert!(said.contains(part), "{text}: {said}");
        }
        assert!(error.next().expect("what to do").contains("AWS_ENDPOINT_URL"), "{text}");
    }
    // The one object of a name is not taken to be missing either.
    let server = Server::new(|_, _| plain("200 OK", "", &page(&[], Some("t"))));
    let error = server.list("s3://b/k").pop().expect("a failure").expect_err("no list");
    assert_eq!((error.kind, server.requests()), (Kind::NoList, 1), "{error}");
}
