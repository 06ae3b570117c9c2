//! Whether a request was signed with a key that we gave: AWS Signature Version 4, by AWS's own signing library.
//!
//! <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv.html>. The request is signed anew with the secret of the key that it
//! names, over the headers that it says it signed, and the two signatures are compared.

use std::fmt;
use std::time::SystemTime;

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{
    PayloadChecksumKind, PercentEncodingMode, SignableBody, SignableRequest, SignatureLocation,
    SigningSettings, UriPathNormalizationMode, sign,
};
use aws_sigv4::sign::v4;
use jiff::{SignedDuration, Timestamp};

use super::fault::{Fault, Kind};

/// How far the signer's clock may be from ours.
const SKEW: SignedDuration = SignedDuration::from_mins(5);
const ALGORITHM: &str = "AWS4-HMAC-SHA256";

/// A request, as it came.
pub struct Signed<'a> {
    /// The method.
    pub method: &'a str,
    /// Path and query, as they stand in the request line.
    pub target: &'a str,
    /// The headers, names in small letters.
    pub headers: &'a [(&'a str, &'a str)],
    /// The body.
    pub body: &'a [u8],
}

/// What the `Authorization` header says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The access key id.
    pub access_key_id: String,
    /// The region of the scope.
    pub region: String,
    /// The service of the scope: `kinesis`.
    pub service: String,
    signed_headers: Vec<String>,
    signature: String,
    time: Timestamp,
}

impl Signed<'_> {
    /// Who says to have signed.
    ///
    /// # Errors
    ///
    /// No signature, half of one, or one of another time.
    pub fn claim(&self, now: Timestamp) -> Result<Claim, Fault> {
        let Some(authorization) = self.header("authorization") else {
            return Err(Fault::new(
                Kind::MissingAuthenticationToken,
                "Missing Authentication Token",
            ));
        };
        let incomplete = |what: &str| {
            Fault::new(
                Kind::IncompleteSignature,
                format!("Authorization header requires {what}."),
            )
        };
        let rest = authorization
            .strip_prefix(ALGORITHM)
            .ok_or_else(|| incomplete("the algorithm AWS4-HMAC-SHA256"))?;
        let part = |name: &str| {
            rest.split(',')
                .filter_map(|part| part.trim().split_once('='))
                .find_map(|(key, value)| (key == name).then_some(value.trim()))
                .ok_or_else(|| incomplete(&format!("'{name}'")))
        };
        let scope: Vec<_> = part("Credential")?.split('/').collect();
        let [access_key_id, date, region, service, "aws4_request"] = scope[..] else {
            return Err(incomplete(
                "a 'Credential' of key, date, region, service and aws4_request",
            ));
        };
        let time = self
            .header("x-amz-date")
            .ok_or_else(|| incomplete("the header 'X-Amz-Date' beside it"))?;
        let parsed = jiff::civil::DateTime::strptime("%Y%m%dT%H%M%SZ", time)
            .and_then(|time| time.to_zoned(jiff::tz::TimeZone::UTC))
            .map_err(|_| incomplete("a valid 'X-Amz-Date' beside it"))?
            .timestamp();
        if !time.starts_with(date) {
            return Err(incomplete("a 'Credential' of the date in 'X-Amz-Date'"));
        }
        if parsed.duration_since(now).abs() > SKEW {
            return Err(Fault::new(
                Kind::InvalidSignature,
                format!(
                    "Signature expired: {time} is not within {} minutes of {now:.0}; set the clock right",
                    SKEW.as_mins()
                ),
            ));
        }
        Ok(Claim {
            access_key_id: access_key_id.to_owned(),
            region: region.to_owned(),
            service: service.to_owned(),
            signed_headers: part("SignedHeaders")?
                .split(';')
                .map(str::to_owned)
                .collect(),
            signature: part("Signature")?.to_owned(),
            time: parsed,
        })
    }

    /// Whether the request was signed with this secret.
    ///
    /// # Errors
    ///
    /// It was not, or it left out a header that must be signed.
    pub fn verify(&self, claim: &Claim, secret: &str) -> Result<(), Fault> {
        let mismatch = || {
            Fault::new(
                Kind::InvalidSignature,
                "The request signature we calculated does not match the signature you provided. Check your secret access key and signing method.",
            )
        };
        for must in ["host", "x-amz-date"] {
            if !claim.signed_headers.iter().any(|signed| signed == must) {
                return Err(Fault::new(
                    Kind::IncompleteSignature,
                    format!("'{must}' must be a signed header."),
                ));
            }
        }
        let mut headers = Vec::new();
        for name in &claim.signed_headers {
            headers.push((name.as_str(), self.header(name).ok_or_else(mismatch)?));
        }
        let mut settings = SigningSettings::default();
        settings.percent_encoding_mode = PercentEncodingMode::Double;
        settings.payload_checksum_kind = PayloadChecksumKind::NoHeader;
        settings.signature_location = SignatureLocation::Headers;
        settings.uri_path_normalization_mode = UriPathNormalizationMode::Enabled;
        settings.excluded_headers = None;
        let identity =
            Credentials::new(&claim.access_key_id, secret, None, None, "linkspan").into();
        let params = v4::SigningParams::builder()
            .identity(&identity)
            .region(&claim.region)
            .name(&claim.service)
            .time(SystemTime::from(claim.time))
            .settings(settings)
            .build()
            .map_err(|_| mismatch())?
            .into();
        let host = self.header("host").unwrap_or_default();
        let request = SignableRequest::new(
            self.method,
            format!("http://{host}{}", self.target),
            headers.into_iter(),
            SignableBody::Bytes(self.body),
        )
        .map_err(|_| mismatch())?;
        let ours = sign(request, &params).map_err(|_| mismatch())?;
        let ours = ours.signature().as_bytes();
        let theirs = claim.signature.as_bytes();
        let differs = ours
            .iter()
            .zip(theirs)
            .fold(0, |differs, (ours, theirs)| differs | (ours ^ theirs));
        if ours.len() == theirs.len() && differs == 0 {
            Ok(())
        } else {
            Err(mismatch())
        }
    }

    fn header(&self, name: &str) -> Option<&str> {
        let mut found = self.headers.iter().filter(|(known, _)| *known == name);
        found.next().map(|(_, value)| *value)
    }
}

impl fmt::Debug for Signed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Neither the signature nor the body.
        f.debug_struct("Signed")
            .field("method", &self.method)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // AWS's published examples: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html
    const KEY: &str = "AKIDEXAMPLE";
    const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
    const TIME: &str = "20150830T123600Z";
    const POST: &str = "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b";
    const GET: &str = "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31";

    fn now() -> Timestamp {
        "2015-08-30T12:36:30Z".parse().unwrap()
    }

    fn authorization(signature: &str) -> String {
        format!(
            "{ALGORITHM} Credential={KEY}/20150830/us-east-1/service/aws4_request, SignedHeaders=host;x-amz-date, Signature={signature}"
        )
    }

    fn check(
        method: &str,
        target: &str,
        authorization: &str,
        body: &[u8],
        secret: &str,
    ) -> Result<Claim, Fault> {
        let headers = [
            ("host", "example.amazonaws.com"),
            ("x-amz-date", TIME),
            ("user-agent", "added on the way"),
            ("authorization", authorization),
        ];
        let request = Signed {
            method,
            target,
            headers: &headers,
            body,
        };
        let claim = request.claim(now())?;
        request.verify(&claim, secret).map(|()| claim)
    }

    #[test]
    fn what_aws_signed_is_taken() {
        let claim = check("POST", "/", &authorization(POST), b"", SECRET).unwrap();
        assert_eq!((&*claim.access_key_id, &*claim.region), (KEY, "us-east-1"));
        check("GET", "/", &authorization(GET), b"", SECRET).unwrap();
        let close = authorization(GET).replace(", ", ",");
        check("GET", "/", &close, b"", SECRET).unwrap();
    }

    #[test]
    fn what_was_changed_on_the_way_or_signed_with_another_secret_is_not() {
        let right = authorization(POST);
        for (method, target, authorization, body, secret) in [
            ("PUT", "/", &right, &b""[..], SECRET),
            ("POST", "/?a=b", &right, b"", SECRET),
            ("POST", "/", &right, b"x", SECRET),
            ("POST", "/", &right, b"", "another"),
            ("POST", "/", &authorization(GET), b"", SECRET),
            ("POST", "/", &authorization(&POST[1..]), b"", SECRET),
        ] {
            let fault = check(method, target, authorization, body, secret).unwrap_err();
            assert_eq!(fault.kind, Kind::InvalidSignature);
            assert!(!fault.message.contains(POST), "{fault}");
        }
    }

    #[test]
    fn half_a_signature_and_one_of_another_time_are_told() {
        let right = authorization(POST);
        for (spoiled, part) in [
            ("Bearer x".to_owned(), "algorithm"),
            (right.replace("Signature", "Sig"), "'Signature'"),
            (right.replace("host;", ""), "'host'"),
            (right.replace(";x-amz-date", ""), "'x-amz-date'"),
            (right.replace("20150830", "20150829"), "date"),
            (right.replace("/aws4_request", ""), "Credential"),
        ] {
            let fault = check("POST", "/", &spoiled, b"", SECRET).unwrap_err();
            assert_eq!(fault.kind, Kind::IncompleteSignature, "{spoiled}");
            assert!(fault.message.contains(part), "{fault}");
        }
        let headers = [
            ("host", "example.amazonaws.com"),
            ("x-amz-date", TIME),
            ("authorization", &*right),
        ];
        let request = Signed {
            method: "POST",
            target: "/",
            headers: &headers,
            body: b"",
        };
        let late = now() + SignedDuration::from_mins(6);
        let fault = request.claim(late).unwrap_err();
        assert_eq!(fault.kind, Kind::InvalidSignature);
        assert!(fault.message.contains("set the clock right"), "{fault}");
        let nothing = Signed {
            headers: &headers[..2],
            ..request
        };
        let fault = nothing.claim(now()).unwrap_err();
        assert_eq!(fault.kind, Kind::MissingAuthenticationToken);
    }
}
