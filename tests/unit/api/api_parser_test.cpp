// SPDX-License-Identifier: Apache-2.0
#include "api/firecracker/place.hpp"
#include "api/server_parser.hpp"
#include "tests/catch.hpp"

namespace inox::api_parser_test {

using api::Method;
using api::RequestParser;
using Step = RequestParser::Step;

namespace {

/// The parser's result for these bytes.
Step parse(RequestParser& parser, const std::string& bytes) {
    parser.feed(bytes);
    return parser.step();
}

std::string refusal_of(const std::string& bytes) {
    RequestParser parser;
    REQUIRE(parse(parser, bytes) == Step::refused);
    CHECK(parser.refusal().status == 400);
    CHECK(parser.step() == Step::refused);
    return parser.refusal().body;
}

} // namespace

TEST_CASE("from its first byte to its last a request keeps the parser busy") {
    const std::string whole = "PUT /x HTTP/1.1\r\nA: b\r\nContent-Length: 2\r\n\r\n{";
    for (std::size_t size = 1; size <= whole.size(); ++size) {
        INFO(size);
        RequestParser parser;
        REQUIRE(parse(parser, whole.substr(0, size)) == Step::more);
        CHECK_FALSE(parser.idle());
    }
    RequestParser parser;
    REQUIRE(parse(parser, whole + "}") == Step::request);
    CHECK(parser.take().body == "{}");
    CHECK(parser.idle());
}

TEST_CASE("a request is taken apart, also when it comes byte by byte, and the next one follows in the same bytes") {
    const std::string first =
        "PUT /drives/a?x=1 HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\nContent-Length: 4\r\n\r\n{\"\"}";
    const std::string second = "GET http://localhost/version HTTP/1.0\r\n\r\n";
    const bool at_once = GENERATE(true, false);
    RequestParser parser;
    CHECK(parser.idle());
    std::string left = first + second;
    const auto next = [&] {
        auto step = parser.step();
        while (step == Step::more && !left.empty()) {
            const auto size = at_once ? left.size() : 1;
            parser.feed(left.substr(0, size));
            left.erase(0, size);
            step = parser.step();
        }
        return step;
    };
    REQUIRE(next() == Step::request);
    const auto put = parser.take();
    CHECK(put.method == Method::put);
    CHECK(put.path == "/drives/a");
    CHECK(put.query == "x=1");
    CHECK(put.body == "{\"\"}");
    CHECK(parser.keep_alive());
    CHECK(parser.minor_version() == 1);
    REQUIRE(next() == Step::request);
    const auto get = parser.take();
    CHECK(get.path == "/version");
    CHECK(parser.minor_version() == 0);
    CHECK_FALSE(parser.keep_alive());
    CHECK(next() == Step::more);
    CHECK(parser.idle());
}

TEST_CASE("a body over the limit is refused before it is sent, with both numbers") {
    CHECK(refusal_of("PUT /mmds HTTP/1.1\r\nContent-Length: 51201\r\n\r\n") ==
          "{ \"error\": \"Request payload with size 51201 is larger than the limit of 51200 allowed by server.\n"
          "All previous unanswered requests will be dropped.\" }");
    RequestParser parser;
    CHECK(parse(parser, "PUT /mmds HTTP/1.1\r\nContent-Length: 51200\r\n\r\n") == Step::more);
    CHECK(parse(parser, std::string(51200, ' ')) == Step::request);
    CHECK(refusal_of("PUT / HTTP/1.1\r\nContent-Length: 99999999999999999999999\r\n\r\n").find("error") !=
          std::string::npos);
    CHECK(refusal_of("PUT / HTTP/1.1\r\nContent-Length: -1\r\n\r\n").find("error") != std::string::npos);
}

TEST_CASE("a client that waits for 100-continue is told to proceed, one that already sends is not") {
    const std::string head = "PUT /mmds HTTP/1.1\r\nExpect: 100-Continue\r\nContent-Length: 2\r\n\r\n";
    RequestParser waiting;
    CHECK(parse(waiting, head) == Step::proceed);
    CHECK(waiting.step() == Step::more);
    CHECK(parse(waiting, "{}") == Step::request);
    RequestParser sending;
    CHECK(parse(sending, head + "{}") == Step::request);
}

TEST_CASE("chunks are put together within the limit") {
    const std::string head = "PUT /mmds HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
    RequestParser parser;
    CHECK(parse(parser, head + "2\r\n{\"\r\n3\r\na\"}\r\n0\r\n\r\n") == Step::request);
    CHECK(parser.take().body == "{\"a\"}");
    RequestParser small{4};
    CHECK(parse(small, head + "5\r\n{\"a\"}\r\n0\r\n\r\n") == Step::refused);
    CHECK(refusal_of(head + "zz\r\n").find("Invalid request") != std::string::npos);
    RequestParser endless;
    CHECK(parse(endless, head + "1;" + std::string(RequestParser::largest_header + 10, 'x')) == Step::refused);
}

TEST_CASE("what is no request of this API's kind is refused in Firecracker's shape") {
    CHECK(refusal_of("POST / HTTP/1.1\r\n\r\n") ==
          "{ \"error\": \"Invalid HTTP Method: POST.\nAll previous unanswered requests will be dropped.\" }");
    CHECK(refusal_of("get / HTTP/1.1\r\n\r\n").find("Invalid HTTP Method") != std::string::npos);
    CHECK(refusal_of("GET x HTTP/1.1\r\n\r\n").find("Invalid URI") != std::string::npos);
    CHECK(refusal_of("GET / HTTP/2.0\r\n\r\n").find("Invalid") != std::string::npos);
    CHECK(refusal_of("\x16\x03\x01\x02\r\n\r\n").find("Invalid") != std::string::npos);
    CHECK(refusal_of("GET / HTTP/1.1\r\nno colon\r\n\r\n").find("Invalid") != std::string::npos);
    CHECK(refusal_of("\r\n\r\n\r\n").find("Invalid") != std::string::npos);
}

TEST_CASE("a body in a coding nobody decodes is refused") {
    const auto body = [](const std::string& coding) {
        return "PUT /mmds HTTP/1.1\r\nTransfer-Encoding: " + coding + "\r\nContent-Length: 2\r\n\r\n{}";
    };
    CHECK(refusal_of(body("gzip")).find("Unsupported Transfer-Encoding: gzip") != std::string::npos);
    RequestParser parser;
    CHECK(parse(parser, body("identity")) == Step::request);
}

TEST_CASE("lines and headers have limits") {
    const std::string line(RequestParser::longest_line, 'a');
    CHECK(refusal_of("GET /" + line + " HTTP/1.1\r\n\r\n").find("request line is too long") != std::string::npos);
    CHECK(refusal_of("GET / HTTP/1.1\r\nX: " + line + "\r\n\r\n").find("header X is too long") != std::string::npos);
    CHECK(refusal_of("GET /" + line + line).find("too long") != std::string::npos);
    std::string flood = "GET / HTTP/1.1\r\n";
    while (flood.size() < RequestParser::largest_header + 100)
        flood += "X-Header: value\r\n";
    CHECK(refusal_of(flood).find("Invalid request") != std::string::npos);
    std::string lines = "GET / HTTP/1.1\r\n";
    while (lines.size() + 1010 < RequestParser::largest_header)
        lines += "X: " + line.substr(0, 1000) + "\r\n";
    RequestParser nearly;
    CHECK(parse(nearly, lines + "\r\n") == Step::request);
    CHECK(refusal_of(lines + "X: " + line.substr(0, 1000) + "\r\n\r\n").find("Invalid request") != std::string::npos);
    RequestParser fits;
    CHECK(parse(fits, "GET / HTTP/1.1\r\nX: " + line.substr(0, 1000) + "\r\n\r\n") == Step::request);
}

TEST_CASE("places in JSON are found as serde counts them") {
    using namespace api::firecracker;
    const std::string text = "{\"a\": [1, {\"b\\\"c\": \"x,}\"}],\n \"d\": {}}";
    CHECK(last_byte(text, "", Part::value) == text.size() - 1);
    CHECK(last_byte(text, "/a", Part::key) == 3);
    CHECK(text.substr(0, last_byte(text, "/a", Part::value) + 1).ends_with("\"x,}\"}]"));
    CHECK(last_byte(text, "/a/0", Part::value) == 7);
    CHECK(last_byte(text, "/nothing", Part::key) == std::string::npos);
    CHECK(last_byte(text, "/a/7", Part::value) == std::string::npos);
    CHECK(line_and_column(text, last_byte(text, "/d", Part::key)) == "line 2 column 4");
    CHECK(line_and_column(text, 0) == "line 1 column 1");
}

} // namespace inox::api_parser_test
