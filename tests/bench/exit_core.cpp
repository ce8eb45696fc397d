// SPDX-License-Identifier: Apache-2.0
// What it costs to count an exit (--exits), without the exit.
#include <benchmark/benchmark.h>

#include <memory>

#include "vmm/kvm/exit_table.hpp"

using namespace inox;

namespace {

/// In turn at so many places; a table has room for about a thousand.
void count_exit(benchmark::State& state) {
    const auto table = std::make_unique<ExitTable>();
    std::uint64_t at = 0;
    const auto places = static_cast<std::uint64_t>(state.range(0));
    for (auto _ : state) {
        vm_exit::Mmio access{};
        access.address = Gpa{0xe0000000 + at * 4};
        at = at + 1 == places ? 0 : at + 1;
        VmExit exit{access};
        benchmark::DoNotOptimize(exit);
        table->count(exit);
    }
}
BENCHMARK(count_exit)->Arg(1)->Arg(100)->Arg(10000);

} // namespace

BENCHMARK_MAIN();
