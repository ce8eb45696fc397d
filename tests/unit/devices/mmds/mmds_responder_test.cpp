// SPDX-License-Identifier: Apache-2.0
#include "devices/mmds/responder.hpp"

#include "tests/catch.hpp"
#include "tests/fakes/mmds_guest.hpp"

namespace inox::mmds_responder_test {

using namespace devices::mmds;
using namespace std::chrono_literals;

namespace {

struct Bench {
    fakes::FakeMetadata metadata{};
    SessionTokens::Time now{1h};
    Responder responder;

    explicit Bench(Responder::Options options = {}) : responder{metadata, SessionTokens::create().value(), options} {}

    /// Status and body of the answer to a request of these lines.
    std::string ask(const std::string& lines) {
        std::string request;
        for (const char c : lines)
            request += c == '\n' ? std::string{"\r\n"} : std::string{c};
        request += "\r\n\r\n";
        last = responder.answer(request, now);
        const auto& bytes = last.bytes;
        return bytes.substr(9, 3) + " " + bytes.substr(bytes.find("\r\n\r\n") + 4);
    }
    bool said(std::string_view header) {
        return last.bytes.find("\r\n" + std::string{header} + "\r\n") != std::string::npos;
    }
    Reply last{};
};

} // namespace

TEST_CASE("mmds: version 1 answers a GET, as text unless JSON is asked for") {
    Bench bench;
    CHECK(bench.ask("GET /a HTTP/1.1") == "200 text");
    CHECK(bench.said("Content-Type: text/plain"));
    CHECK(bench.said("Content-Length: 4"));
    CHECK(bench.said("Connection: keep-alive"));
    CHECK_FALSE(bench.last.close);
    CHECK(bench.ask("GET /a HTTP/1.1\nAccept: application/json") == "200 \"text\"");
    CHECK(bench.said("Content-Type: application/json"));
    CHECK(bench.ask("GET /a HTTP/1.1\naccept: */*") == "200 text");
    CHECK(bench.ask("GET / HTTP/1.1") == "200 a\nn");
    CHECK(bench.ask("GET /n HTTP/1.1") == "501 Cannot retrieve value. The value has an unsupported type.");
    CHECK(bench.ask("GET /n HTTP/1.1\nAccept: application/json") == "200 1");
    CHECK(bench.ask("GET //x HTTP/1.1") == "404 Resource not found: //x.");
    CHECK(bench.ask("GET /a HTTP/1.1\nX-metadata-token: rubbish") == "200 text");
}

TEST_CASE("mmds: as EC2's service, it never answers in JSON") {
    Bench bench{{.always_text = true}};
    CHECK(bench.ask("GET /a HTTP/1.1\nAccept: application/json") == "200 text");
}

TEST_CASE("mmds: paths may be absolute and hold double slashes") {
    Bench bench;
    CHECK(bench.ask("GET http://169.254.169.254/a HTTP/1.0") == "200 text");
    CHECK(bench.ask("GET ///a HTTP/1.1") == "200 text");
    CHECK(bench.ask("GET http:// HTTP/1.0") == "400 Invalid URI.");
    CHECK(bench.ask("GET http://169.254.169.254 HTTP/1.0") == "400 Invalid URI.");
    CHECK(bench.ask("GET a HTTP/1.1") == "400 Invalid URI.");
}

TEST_CASE("mmds: connections persist as each HTTP version has it") {
    Bench bench;
    bench.ask("GET /a HTTP/1.0");
    CHECK(bench.last.close);
    bench.ask("GET /a HTTP/1.0\nConnection: keep-alive");
    CHECK_FALSE(bench.last.close);
    bench.ask("GET /a HTTP/1.1\nConnection: Close");
    CHECK(bench.last.close);
    CHECK(bench.said("Connection: close"));
}

TEST_CASE("mmds: version 2 wants a token, and takes it under both names until it expires") {
    Bench bench{{.version = Version::v2}};
    CHECK(bench.ask("GET /a HTTP/1.1").starts_with("401 No MMDS token provided."));
    CHECK(bench.ask("GET /a HTTP/1.1\nX-metadata-token: rubbish") == "401 MMDS token not valid.");
    for (const std::string name : {"X-metadata-token", "X-aws-ec2-metadata-token"}) {
        const auto answer = bench.ask("PUT /latest/api/token HTTP/1.1\n" + name + "-ttl-seconds: 60");
        REQUIRE(answer.starts_with("200 "));
        CHECK(bench.said(name + "-ttl-seconds: 60"));
        const auto token = answer.substr(4);
        CHECK(bench.ask("GET /a HTTP/1.1\n" + name + ": " + token) == "200 text");
        bench.now += 59s;
        CHECK(bench.ask("GET /a HTTP/1.1\n" + name + ": " + token) == "200 text");
        bench.now += 1s;
        CHECK(bench.ask("GET /a HTTP/1.1\n" + name + ": " + token) == "401 MMDS token not valid.");
    }
}

TEST_CASE("mmds: a token that was changed, or another machine's, is none") {
    const auto tokens = SessionTokens::create().value();
    const auto others = SessionTokens::create().value();
    const SessionTokens::Time now{1h};
    const auto token = tokens.issue(10s, now);
    CHECK(tokens.valid(token, now));
    CHECK_FALSE(others.valid(token, now));
    CHECK_FALSE(tokens.valid(token + "0", now));
    CHECK_FALSE(tokens.valid({}, now));
    for (std::size_t i = 0; i < token.size(); ++i) {
        auto changed = token;
        changed[i] = changed[i] == '0' ? '1' : '0';
        CHECK_FALSE(tokens.valid(changed, now));
    }
}

TEST_CASE("mmds: SipHash gives the number of its authors' reference for eight bytes") {
    CHECK(siphash(0x0706050403020100, 0x0f0e0d0c0b0a0908, 0x0706050403020100) == 0x93f5f5799a932462);
}

TEST_CASE("mmds: tokens are given in both versions, for 1 to 21600 seconds, not to proxies") {
    Bench bench{{.version = GENERATE(Version::v1, Version::v2)}};
    const std::string put = "PUT /latest/api/token HTTP/1.1\n";
    CHECK(bench.ask(put + "X-metadata-token-ttl-seconds: 1").starts_with("200 "));
    CHECK(bench.ask(put + "x-METADATA-token-ttl-seconds: 21600").starts_with("200 "));
    for (const char* wrong : {"0", "21601", "-1", "", "1x", "99999999999999999999"})
        CHECK(bench.ask(put + "X-metadata-token-ttl-seconds: " + wrong).starts_with("400 Invalid time to live value"));
    CHECK(bench.ask(put + "Host: x").starts_with("400 Token time to live value not found."));
    CHECK(bench.ask(put + "X-metadata-token-ttl-seconds: 1\nX-Forwarded-For: 10.0.0.1")
              .starts_with("400 Invalid header."));
    CHECK(bench.ask("PUT /a HTTP/1.1\nX-metadata-token-ttl-seconds: 1") == "404 Resource not found: /a.");
    CHECK(bench.ask("PATCH /a HTTP/1.1") == "405 Not allowed HTTP method.");
    CHECK(bench.said("Allow: GET, PUT"));
}

TEST_CASE("mmds: what is no request is refused, and its connection ends") {
    Bench bench;
    for (const char* wrong : {"", "GET", "GET /a", "GET /a HTTP/2.0", "GET /a HTTP/1.1 x", "GET /a HTTP/1.1\nno colon",
                              "GET  /a HTTP/1.1", "GET /a HTTP/1.1\n: x"}) {
        INFO(wrong);
        CHECK(bench.ask(wrong) == "400 Invalid request.");
        CHECK(bench.last.close);
    }
}

TEST_CASE("mmds: a request ends with its head, or with the body it announces") {
    CHECK_FALSE(request_length(""));
    CHECK_FALSE(request_length("GET / HTTP/1.1\r\n"));
    CHECK(request_length("GET / HTTP/1.1\r\n\r\nmore") == 18);
    CHECK(request_length("PUT / HTTP/1.1\r\ncontent-length: 3\r\n\r\nabcd") == 40);
    CHECK_FALSE(request_length("PUT / HTTP/1.1\r\ncontent-length: 5\r\n\r\nabcd"));
    CHECK(request_length("PUT / HTTP/1.1\r\ncontent-length: x\r\n\r\n") == 37);
    CHECK(request_length("PUT / HTTP/1.1\r\ncontent-length: 18446744073709551615\r\n\r\n") == 56);
}

} // namespace inox::mmds_responder_test
