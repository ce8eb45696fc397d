// SPDX-License-Identifier: Apache-2.0
// A guest's console as those read it who judge it: --fail-on, --expect's lines and KTAP results. Whatever the bytes and
// however they are cut, memory has its bounds, findings are in the order of their lines, and text is fit for a
// terminal.
//
//   input   a byte how to cut, then the console's bytes
#include <algorithm>

#include "tests/fuzz/input.hpp"
#include "vmm/instance/verdict/findings.hpp"
#include "vmm/test/ktap.hpp"

using namespace inox;

namespace {

using fuzz::require;

void check(const Findings& findings) {
    std::uint64_t last = 0;
    const auto list = findings.list();
    require(list.size() <= Findings::most_kept && list.size() <= findings.count());
    for (const auto& finding : list) {
        require(finding.line >= last && finding.text.size() <= Findings::longest_line);
        require(std::ranges::none_of(finding.text, [](unsigned char c) { return c < 0x20 || c == 0x7f; }));
        last = finding.line;
    }
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    if (size == 0)
        return 0;
    const std::size_t piece = 1U + data[0];
    const auto bytes = std::as_bytes(std::span{data + 1, size - 1});
    const std::vector<std::string> patterns{"kernel", "^a(b|c)*d", "[0-9]+ of .*x"};
    auto cut = *Findings::create(patterns);
    auto whole = *Findings::create(patterns);
    for (std::size_t at = 0; at < bytes.size(); at += piece)
        cut->feed(bytes.subspan(at, std::min(piece, bytes.size() - at)));
    whole->feed(bytes);
    cut->finish();
    whole->finish();
    check(*cut);
    require(cut->count() == whole->count());

    test::Ktap ktap;
    const std::string_view text{reinterpret_cast<const char*>(bytes.data()), bytes.size()}; // NOLINT
    for (std::size_t at = 0; at < text.size();) {
        const auto end = std::min(text.find('\n', at), text.size() - 1);
        ktap.take(text.substr(at, end - at + 1));
        at = end + 1;
    }
    ktap.finish("the end");
    require(ktap.results().size() <= test::Ktap::most_results);
    for (const auto& result : ktap.results())
        require(result.text.size() <= test::Ktap::longest_text);
    return 0;
}
