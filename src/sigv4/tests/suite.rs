//! Amazon's Signature Version 4 test suite: requests and their signatures, in the header and
//! presigned for one hour. The key is AKIDEXAMPLE, the time 2015-08-30 12:36:00, the region
//! us-east-1, the service `service`.
//!
//! Omitted, because we refuse such requests or never see them: paths that are not normalised (S3),
//! a folded header field, and a session token that is added after signing.

use super::*;

/// One request of the suite.
struct Vector {
    name: &'static str,
    /// Method, target, header fields and body, without those of the signature.
    request: &'static str,
    session_token: Option<&'static str>,
    /// SignedHeaders and the signature, in the Authorization header.
    in_header: (&'static str, &'static str),
    /// SignedHeaders and the signature, in the query.
    in_query: (&'static str, &'static str),
}

/// Each request of the suite, signed in its header and in its query.
#[test]
fn the_requests_of_amazons_test_suite_are_accepted() {
    const CREDENTIAL: &str = "AKIDEXAMPLE/20150830/us-east-1/service/aws4_request";
    for vector in &VECTORS {
        let key = key(
            "AKIDEXAMPLE",
            "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
            vector.session_token,
        );
        let result =
            |sent: &Sent| check(sent, &key, ["us-east-1", "service"], "2015-08-30T12:36:00Z");

        let (list, signature) = vector.in_header;
        let mut sent = Sent::read(vector.request);
        sent.set("x-amz-date", "20150830T123600Z");
        if let Some(token) = vector.session_token {
            sent.set("x-amz-security-token", token);
        }
        let authorization = format!(
            "AWS4-HMAC-SHA256 Credential={CREDENTIAL}, SignedHeaders={list}, Signature={signature}"
        );
        sent.set("authorization", &authorization);
        assert_eq!(
            result(&sent).map(|signer| signer.access_key_id),
            Ok("AKIDEXAMPLE".into()),
            "{}",
            vector.name
        );
        sent.replace("authorization", &signature[..8], "00000000");
        assert_eq!(
            result(&sent),
            Err(AuthError::Refused(RefusedPart::Signature)),
            "{}",
            vector.name
        );

        let (list, signature) = vector.in_query;
        let mut sent = Sent::read(vector.request);
        sent.headers
            .retain(|(name, _)| name != "x-amz-content-sha256");
        let escape = |text: &str| {
            ["/", "+", "=", ";"]
                .iter()
                .fold(text.to_string(), |text, c| {
                    text.replace(c, &format!("%{:02X}", c.as_bytes()[0]))
                })
        };
        let joint = if sent.query.is_empty() { "" } else { "&" };
        let token = vector.session_token.map_or_else(String::new, |token| {
            format!("&X-Amz-Security-Token={}", escape(token))
        });
        sent.query += &format!(
            "{joint}X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential={}&X-Amz-Date=20150830T123600Z\
             &X-Amz-SignedHeaders={}&X-Amz-Expires=3600{token}&X-Amz-Signature={signature}",
            escape(CREDENTIAL),
            escape(list)
        );
        assert_eq!(
            result(&sent).map(|signer| signer.access_key_id),
            Ok("AKIDEXAMPLE".into()),
            "{}",
            vector.name
        );
        sent.query.truncate(sent.query.len() - 8);
        sent.query += "00000000";
        assert_eq!(
            result(&sent),
            Err(AuthError::Refused(RefusedPart::Signature)),
            "{}",
            vector.name
        );
    }
}

const TOKEN_1: &str = "6e86291e8372ff2a2260956d9b8aae1d763fbf315fa00fa31553b73ebf194267";
const TOKEN_2: &str = "AQoDYXdzEPT//////////wEXAMPLEtc764bNrC9SAPBSM22wDOk4x4HIZ8j4FZTwdQWLWsKWHGBuFqwAeMicRXmxfpSPfIeoIYRqTflfKD8YUuwthAx7mSEI/qkPpKPi/kMcGdQrmGdeehM4IC1NtBmUpp2wUE8phUZampKsburEDy0KPkyQDYwT7WZ0wq5VSXDvp75YU9HFvlRd8Tx6q6fE8YQcHNVXAkiY9q6d+xo0rKwT38xVqr7ZD0u0iPPkUL64lIZbqBAz+scqKmlzm8FDrypNC9Yjc8fPOLn9FX9KSYvKTr4rvx3iSIlTJabIQwj2ICCR/oLxBA==";

#[rustfmt::skip]
const VECTORS: [Vector; 29] = [
    Vector {
        name: "get-header-key-duplicate",
        request: "GET / HTTP/1.1\nHost:example.amazonaws.com\nMy-Header1:value2\nMy-Header1:value2\nMy-Header1:value1",
        session_token: None,
        in_header: ("host;my-header1;x-amz-date", "c9d5ea9f3f72853aea855b47ea873832890dbdd183b4468f858259531a5138ea"),
        in_query: ("host;my-header1", "3349ee0b81b4b589da0ff28a395c3591e04de515651dd74f298fa992d1507a97"),
    },
    Vector {
        name: "get-header-value-order",
        request: "GET / HTTP/1.1\nHost:example.amazonaws.com\nMy-Header1:value4\nMy-Header1:value1\nMy-Header1:value3\nMy-Header1:value2",
        session_token: None,
        in_header: ("host;my-header1;x-amz-date", "08c7e5a9acfcfeb3ab6b2185e75ce8b1deb5e634ec47601a50643f830c755c01"),
        in_query: ("host;my-header1", "313720e71ca6202fdcfa9b20f88de01a4eb0638a83c833b1c184359a4eda864e"),
    },
    Vector {
        name: "get-header-value-trim",
        request: "GET / HTTP/1.1\nHost:example.amazonaws.com\nMy-Header1: value1\nMy-Header2: \"a   b   c\"",
        session_token: None,
        in_header: ("host;my-header1;my-header2;x-amz-date", "acc3ed3afb60bb290fc8d2dd0098b9911fcaa05412b367055dee359757a9c736"),
        in_query: ("host;my-header1;my-header2", "e7bb0fd515e125e1aec2ecc4c0c17484fb06f6846b927c35e46005dd3df3acd4"),
    },
    Vector {
        name: "get-relative-normalized",
        request: "GET /example/.. HTTP/1.1\nHost:example.amazonaws.com",
        session_token: None,
        in_header: ("host;x-amz-date", "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
        in_query: ("host", "e93c787ed7f371d5c6b165c1b38ede9550f4dce4144713e844b25b7192d3865d"),
    },
    Vector {
        name: "get-relative-relative-normalized",
        request: "GET /example1/example2/../.. HTTP/1.1\nHost:example.amazonaws.com",
        session_token: None,
        in_header: ("host;x-amz-date", "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
        in_query: ("host", "e93c787ed7f371d5c6b165c1b38ede9550f4dce4144713e844b25b7192d3865d"),
    },
    Vector {
        name: "get-slash-dot-slash-normalized",
        request: "GET /./ HTTP/1.1\nHost:example.amazonaws.com",
        session_token: None,
        in_header: ("host;x-amz-date", "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
        in_query: ("host", "e93c787ed7f371d5c6b165c1b38ede9550f4dce4144713e844b25b7192d3865d"),
    },
    Vector {
        name: "get-slash-normalized",
        request: "GET // HTTP/1.1\nHost:example.amazonaws.com",
        session_token: None,
        in_header: ("host;x-amz-date", "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
        in_query: ("host", "e93c787ed7f371d5c6b165c1b38ede9550f4dce4144713e844b25b7192d3865d"),
    },
    Vector {
        name: "get-slash-pointless-dot-normalized",
        request: "GET /./example HTTP/1.1\nHost:example.amazonaws.com",
        session_token: None,
        in_header: ("host;x-amz-date", "ef75d96142cf21edca26f06005da7988e4f8dc83a165a80865db7089db637ec5"),
        in_query: ("host", "35034b1a0bdd969f346975386daf8aedfd4976573b8348cf4f67eaa41c5857de"),
    },
    Vector {
        name: "get-slashes-normalized",
        request: "GET //example// HTTP/1.1\nHost:example.amazonaws.com",
        session_token: None,
        in_header: ("host;x-amz-date", "9a624bd73a37c9a373b5312afbebe7a714a789de108f0bdfe846570885f57e84"),
        in_query: ("host", "c1834e8fb0307243711f0f907f6ab7311ed300d87f13792d7ee4da89ab93e082"),
    },
    Vector {
        name: "get-space-normalized",
        request: "GET /example space/ HTTP/1.1\nHost:example.amazonaws.com",
        session_token: None,
        in_header: ("host;x-amz-date", "652487583200325589f1fba4c7e578f72c47cb61beeca81406b39ddec1366741"),
        in_query: ("host", "7a1f416954786484c9824d93c1f26ef64acb9b1b6c9154d08c9f07d0e394abf6"),
    },
    Vector {
        name: "get-unreserved",
        request: "GET /-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz HTTP/1.1\nHost:example.amazonaws.com",
        session_token: None,
        in_header: ("host;x-amz-date", "07ef7494c76fa4850883e2b006601f940f8a34d404d0cfa977f52a65bbf5f24f"),
        in_query: ("host", "95968482db1b9e0fadef6efc1bd24689f77c77d9ef56919c96a28cc92e0d6005"),
    },
    Vector {
        name: "get-utf8",
        request: "GET /ሴ HTTP/1.1\nHost:example.amazonaws.com",
        session_token: None,
        in_header: ("host;x-amz-date", "8318018e0b0f223aa2bbf98705b62bb787dc9c0e678f255a891fd03141be5d85"),
        in_query: ("host", "10eae3f14a260bd3911cc6d008d3c576d143b05b62f09782a7a4b37f52178e44"),
    },
    Vector {
        name: "get-vanilla",
        request: "GET / HTTP/1.1\nHost:example.amazonaws.com",
        session_token: None,
        in_header: ("host;x-amz-date", "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
        in_query: ("host", "e93c787ed7f371d5c6b165c1b38ede9550f4dce4144713e844b25b7192d3865d"),
    },
    Vector {
        name: "get-vanilla-empty-query-key",
        request: "GET /?Param1=value1 HTTP/1.1\nHost:example.amazonaws.com",
        session_token: None,
        in_header: ("host;x-amz-date", "a67d582fa61cc504c4bae71f336f98b97f1ea3c7a6bfe1b6e45aec72011b9aeb"),
        in_query: ("host", "49096700cbbaa5753443850f40df10f904fc2fdb544dc9512203cc77c471a9de"),
    },
    Vector {
        name: "get-vanilla-query",
        request: "GET / HTTP/1.1\nHost:example.amazonaws.com",
        session_token: None,
        in_header: ("host;x-amz-date", "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
        in_query: ("host", "e93c787ed7f371d5c6b165c1b38ede9550f4dce4144713e844b25b7192d3865d"),
    },
    Vector {
        name: "get-vanilla-query-order-encoded",
        request: "GET /?Param-3=Value3&Param=Value2&%E1%88%B4=Value1 HTTP/1.1\nHost:example.amazonaws.com",
        session_token: None,
        in_header: ("host;x-amz-date", "371d3713e185cc334048618a97f809c9ffe339c62934c032af5a0e595648fcac"),
        in_query: ("host", "c5f1848ceec943ac2ca68ee720460c23aaae30a2300586597ada94c4a65e4787"),
    },
    Vector {
        name: "get-vanilla-query-order-key-case",
        request: "GET /?Param2=value2&Param1=value1 HTTP/1.1\nHost:example.amazonaws.com",
        session_token: None,
        in_header: ("host;x-amz-date", "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500"),
        in_query: ("host", "86012e2c9ad4d77369f5d81c11f75158aae4f895a085212cc6d3f923d300bed5"),
    },
    Vector {
        name: "get-vanilla-query-unreserved",
        request: "GET /?-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz=-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz HTTP/1.1\nHost:example.amazonaws.com",
        session_token: None,
        in_header: ("host;x-amz-date", "9c3e54bfcdf0b19771a7f523ee5669cdf59bc7cc0884027167c21bb143a40197"),
        in_query: ("host", "8e76a88a7433637b12778d5592799b29ad21ecd6cf6325051c21d86f0acda2bf"),
    },
    Vector {
        name: "get-vanilla-utf8-query",
        request: "GET /?ሴ=bar HTTP/1.1\nHost:example.amazonaws.com",
        session_token: None,
        in_header: ("host;x-amz-date", "2cdec8eed098649ff3a119c94853b13c643bcf08f8b0a1d91e12c9027818dd04"),
        in_query: ("host", "0bdd809b1519ac4f0c1dc3540e2cc46bd0c7f778eda408b2ebf3b913d21ff600"),
    },
    Vector {
        name: "get-vanilla-with-session-token",
        request: "GET / HTTP/1.1\nHost:example.amazonaws.com",
        session_token: Some(TOKEN_1),
        in_header: ("host;x-amz-date;x-amz-security-token", "07ec1639c89043aa0e3e2de82b96708f198cceab042d4a97044c66dd9f74e7f8"),
        in_query: ("host", "7ff2b50b376cb4d151970630573d6291dc128cc5c2a12ffb237f73cc53f67b6c"),
    },
    Vector {
        name: "post-header-key-case",
        request: "POST / HTTP/1.1\nHost:example.amazonaws.com",
        session_token: None,
        in_header: ("host;x-amz-date", "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"),
        in_query: ("host", "2ce6e6d2e0cf2f9d1b55fafec88cd20574c31dc2e7631979f71ba2310083e95b"),
    },
    Vector {
        name: "post-header-key-sort",
        request: "POST / HTTP/1.1\nHost:example.amazonaws.com\nMy-Header1:value1",
        session_token: None,
        in_header: ("host;my-header1;x-amz-date", "c5410059b04c1ee005303aed430f6e6645f61f4dc9e1461ec8f8916fdf18852c"),
        in_query: ("host;my-header1", "c09d07e0d55871f10f2a6d350d994acf6825a3cae70673d7def55616e6119dd7"),
    },
    Vector {
        name: "post-header-value-case",
        request: "POST / HTTP/1.1\nHost:example.amazonaws.com\nMy-Header1:VALUE1",
        session_token: None,
        in_header: ("host;my-header1;x-amz-date", "cdbc9802e29d2942e5e10b5bccfdd67c5f22c7c4e8ae67b53629efa58b974b7d"),
        in_query: ("host;my-header1", "0698bc9e4f7f9139065ba2909c0e99da257e8e2a42492a097bcd46d792391fed"),
    },
    Vector {
        name: "post-sts-header-before",
        request: "POST / HTTP/1.1\nHost:example.amazonaws.com",
        session_token: Some(TOKEN_2),
        in_header: ("host;x-amz-date;x-amz-security-token", "85d96828115b5dc0cfc3bd16ad9e210dd772bbebba041836c64533a82be05ead"),
        in_query: ("host", "46c2e3c63c1dbe7d39f8ada16fe7f001c1f56c5791441565323677f96308871c"),
    },
    Vector {
        name: "post-vanilla",
        request: "POST / HTTP/1.1\nHost:example.amazonaws.com",
        session_token: None,
        in_header: ("host;x-amz-date", "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"),
        in_query: ("host", "2ce6e6d2e0cf2f9d1b55fafec88cd20574c31dc2e7631979f71ba2310083e95b"),
    },
    Vector {
        name: "post-vanilla-empty-query-value",
        request: "POST /?Param1=value1 HTTP/1.1\nHost:example.amazonaws.com",
        session_token: None,
        in_header: ("host;x-amz-date", "28038455d6de14eafc1f9222cf5aa6f1a96197d7deb8263271d420d138af7f11"),
        in_query: ("host", "a9ef26247f293bffe40eeff86a0480ba8c14d31503b2e0c3399e3a16bf1a3682"),
    },
    Vector {
        name: "post-vanilla-query",
        request: "POST /?Param1=value1 HTTP/1.1\nHost:example.amazonaws.com",
        session_token: None,
        in_header: ("host;x-amz-date", "28038455d6de14eafc1f9222cf5aa6f1a96197d7deb8263271d420d138af7f11"),
        in_query: ("host", "a9ef26247f293bffe40eeff86a0480ba8c14d31503b2e0c3399e3a16bf1a3682"),
    },
    Vector {
        name: "post-x-www-form-urlencoded",
        request: "POST / HTTP/1.1\nContent-Type:application/x-www-form-urlencoded\nHost:example.amazonaws.com\nContent-Length:13\nx-amz-content-sha256:9095672bbd1f56dfc5b65f3e153adc8731a4a654192329106275f4c7b24d0b6e\n\nParam1=value1",
        session_token: None,
        in_header: ("content-length;content-type;host;x-amz-content-sha256;x-amz-date", "d3875051da38690788ef43de4db0d8f280229d82040bfac253562e56c3f20e0b"),
        in_query: ("content-length;content-type;host", "89a40deed0f26f9461242825a082d2222717248abc7ab41f552ad84a94ad46e9"),
    },
    Vector {
        name: "post-x-www-form-urlencoded-parameters",
        request: "POST / HTTP/1.1\nContent-Type:application/x-www-form-urlencoded; charset=utf-8\nHost:example.amazonaws.com\nContent-Length:13\nx-amz-content-sha256:9095672bbd1f56dfc5b65f3e153adc8731a4a654192329106275f4c7b24d0b6e\n\nParam1=value1",
        session_token: None,
        in_header: ("content-length;content-type;host;x-amz-content-sha256;x-amz-date", "328d1b9eaadca9f5818ef05e8392801e091653bafec24fcab71e7344e7f51422"),
        in_query: ("content-length;content-type;host", "0dbeb9b026c7b6675f266b8427efec9b4fa8b1f6ef1477d717aea231106eab4d"),
    },
];
