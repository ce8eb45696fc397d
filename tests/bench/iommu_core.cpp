// SPDX-License-Identifier: Apache-2.0
// The address-space core alone, with an emulated endpoint: what a MAP and an UNMAP cost beside N live mappings, and a
// translation.
#include <benchmark/benchmark.h>
#include <cstdlib>
#include <random>

#include "iommu/domains.hpp"
#include "tests/fakes/translate.hpp"

namespace {

using iommu::DomainId;
using iommu::EndpointId;
using iommu::Status;
using vmm::Gpa;
using vmm::Iova;

constexpr std::uint64_t page = vmm::page_size;
constexpr std::uint64_t ram_size = 64 * vmm::MiB;

void require(bool good) {
    if (!good)
        std::abort();
}

struct World {
    vmm::GuestMemory memory{*vmm::GuestMemory::create(ram_size, vmm::HugePages::none)};
    iommu::Domains domains{memory, {.mappings = std::size_t{1} << 21}, false};
    std::unique_ptr<iommu::EndpointMemory> view{domains.make_memory()};
    vmm::Registration stay{*domains.add_endpoint(EndpointId{8}, "bench", *view)};
    std::uint64_t space; ///< pages that mappings may take: every other one is free

    explicit World(std::uint64_t live) : space{2 * live} {
        require(domains.attach(DomainId{1}, EndpointId{8}, false) == Status::ok);
        for (std::uint64_t i = 0; i < live; ++i)
            map(2 * i);
    }
    void map(std::uint64_t at) {
        const std::uint64_t start = (at + 0x100000) * page; // above the MSI window
        require(domains.map(DomainId{1}, Iova{start}, Iova{start + page - 1}, Gpa{at % (ram_size / page) * page}, 3,
                            true) == Status::ok);
    }
    void unmap(std::uint64_t at) {
        const std::uint64_t start = (at + 0x100000) * page;
        require(domains.unmap(DomainId{1}, Iova{start}, Iova{start + page - 1}) == Status::ok);
    }
};

/// One page at a random place among the live ones.
void map_unmap(benchmark::State& state) {
    World world{static_cast<std::uint64_t>(state.range(0))};
    std::mt19937_64 random{1};
    for (auto _ : state) {
        const std::uint64_t at = random() % world.space | 1;
        world.map(at);
        world.unmap(at);
    }
}

void translate(benchmark::State& state) {
    World world{1000};
    std::vector<iovec> out;
    out.reserve(1);
    const auto hold = world.view->hold();
    const auto range = *vmm::Range<Iova>::sized(Iova{(0x100000 + 40) * page + 512}, 512);
    for (auto _ : state) {
        out.clear();
        require(fakes::translate(*world.view, range, vmm::Access::read, out));
        benchmark::DoNotOptimize(out.data());
    }
    require(world.view->counts().misses == 1);
}

/// Bytes of host memory a mapping takes, as the allocator gives them out.
void memory_per_mapping(benchmark::State& state) {
    const auto live = static_cast<std::uint64_t>(state.range(0));
    iommu::MappingTable table;
    std::mt19937_64 random{1};
    while (table.size() < live) {
        const std::uint64_t start = random() % (8 * live) * page;
        (void)table.insert({*vmm::Range<Iova>::sized(Iova{start}, page), Gpa{0}, 3});
    }
    for (auto _ : state)
        benchmark::DoNotOptimize(table.size());
    state.counters["bytes"] = static_cast<double>(table.memory()) / static_cast<double>(table.size());
}

} // namespace

BENCHMARK(map_unmap)->Arg(10)->Arg(1000)->Arg(100000)->Arg(1000000);
BENCHMARK(translate);
BENCHMARK(memory_per_mapping)->Arg(1000000)->Iterations(1);
BENCHMARK_MAIN();
