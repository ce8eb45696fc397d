// SPDX-License-Identifier: Apache-2.0
#include "vmm/template/report.hpp"

#include <unistd.h>

#include "tests/catch.hpp"

namespace inox::template_report_test {

using namespace clones;

namespace {

std::string sent(const Result<void>& running, std::optional<std::uint64_t> at) {
    int ends[2]{-1, -1};
    REQUIRE(::pipe(ends) == 0);
    send_report(ends[1], running, at);
    ::close(ends[1]);
    std::string text(4096, '\0');
    const auto got = ::read(ends[0], text.data(), text.size());
    ::close(ends[0]);
    text.resize(static_cast<std::size_t>(std::max<ssize_t>(got, 0)));
    return text;
}

} // namespace

TEST_CASE("a clone's report comes back as it was sent") {
    CHECK(*read_report(sent({}, 1234)) == 1234U);
    CHECK_FALSE((*read_report(sent({}, std::nullopt))).has_value());
    Error error{Errc::disk_missing, "cannot open it", "look", "/drives/0", ENOENT};
    const auto back = read_report(sent(std::unexpected{error}, {}));
    REQUIRE_FALSE(back);
    CHECK(back.error().code == Errc::disk_missing);
    CHECK(back.error().message() == error.message());
    CHECK(back.error().hint == "look");
    CHECK(back.error().where == "/drives/0");
}

TEST_CASE("a clone that ended without a whole report has failed") {
    const auto whole = sent({}, 1234);
    for (std::size_t size = 0; size < whole.size(); ++size) {
        INFO(size);
        const auto cut = read_report(whole.substr(0, size));
        REQUIRE_FALSE(cut);
        CHECK(cut.error().code == Errc::host_error);
    }
}

} // namespace inox::template_report_test
