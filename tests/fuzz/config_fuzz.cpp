// SPDX-License-Identifier: Apache-2.0
#include "tests/fuzz/input.hpp"
#include "vmm/instance/config_check.hpp"

using namespace inox;

namespace {

using fuzz::require;

/// A problem's report is safe to print on a terminal, and complete.
void check_problem(const Error& problem) {
    const auto text = problem.report();
    require(!problem.what.empty() && text.ends_with('\n'));
    for (const char c : text)
        require(c == '\n' || (c >= 0x20 && c < 0x7f));
}

void check_dialect(std::string_view text, Dialect dialect) {
    const auto parsed = parse_config(text, dialect);
    for (const auto& problem : parsed.problems)
        check_problem(problem);
    if (parsed.problems.empty()) {
        auto config = parsed.file.config;
        if (config.boot.kernel.empty() && !parsed.file.test.kernels.empty()) // a root needs one
            config.boot.kernel = parsed.file.test.kernels.front();
        require(inox::check(config).empty());
    }
    require(check_json("fuzz", parsed, {}).ends_with("}\n"));
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const std::string_view text{reinterpret_cast<const char*>(data), size}; // NOLINT: bytes are what a file holds
    check_dialect(text, Dialect::inox);
    check_dialect(text, Dialect::firecracker);
    return 0;
}
