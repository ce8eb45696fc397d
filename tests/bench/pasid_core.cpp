// SPDX-License-Identifier: Apache-2.0
// The cost of PASIDs without a machine: look-up, submission, allocation, decoding, address translation.
#include <benchmark/benchmark.h>

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <random>
#include <thread>

#include "iommu/pasid/enqcmd_decode.hpp"
#include "iommu/pasid/pasid_service.hpp"
#include "tests/support/page_tables.hpp"
#include "tests/support/translate.hpp"

using namespace inox;

namespace {

using iommu::EndpointId;
using iommu::GuestPasid;
using iommu::HostPasid;

void require(bool good) {
    if (!good)
        std::abort();
}

constexpr std::uint32_t pairs = 1024;

/// Numbers from all over the space, so that each has its own table; a few of them are looked up again and again.
std::vector<GuestPasid> numbers() {
    std::mt19937 random{1};
    std::vector<GuestPasid> list;
    for (std::uint32_t i = 0; i < pairs; ++i)
        list.emplace_back((i << 10) | (random() & 0x3ff));
    return list;
}

void translate(benchmark::State& state) {
    const auto table = *iommu::PasidTable::create();
    const auto guests = numbers();
    for (const auto guest : guests)
        require(table->set(guest, HostPasid{guest.raw() ^ 5}));
    std::atomic<bool> stop{false};
    std::thread writer;
    if (state.range(0) != 0)
        writer = std::thread{[&] { // writes neighbours, in the same tables, of the entries that are looked up
            for (std::uint32_t i = 0; !stop; ++i) {
                const GuestPasid beside{guests[i % 8].raw() ^ 1};
                (void)table->set(beside, HostPasid{i % 0xfffff});
                (void)table->clear(beside);
            }
        }};
    std::uint32_t i = 0;
    for (auto _ : state)
        benchmark::DoNotOptimize(table->translate(guests[i++ % 8]));
    stop = true;
    if (writer.joinable())
        writer.join();
}

void translate_scattered(benchmark::State& state) {
    const auto table = *iommu::PasidTable::create();
    auto guests = numbers();
    for (const auto guest : guests)
        require(table->set(guest, HostPasid{guest.raw() ^ 5}));
    std::shuffle(guests.begin(), guests.end(), std::mt19937{2});
    std::uint32_t i = 0;
    for (auto _ : state)
        benchmark::DoNotOptimize(table->translate(guests[i++ % pairs]));
}

void alloc_free(benchmark::State& state) {
    iommu::IoasidCore core;
    const auto set = *core.set_alloc({}, 0);
    for (std::int64_t live = 0; live < state.range(0); ++live)
        require(core.alloc(set, HostPasid{1}, HostPasid{iommu::max_ioasid}).has_value());
    // Free numbers are scattered among the live ones.
    std::mt19937 random{3};
    for (int i = 0; i < 1000; ++i) {
        const HostPasid id{static_cast<std::uint32_t>(1 + random() % static_cast<std::uint32_t>(state.range(0)))};
        core.free(set, id);
        benchmark::DoNotOptimize(id);
    }
    for (auto _ : state) {
        const auto id = core.alloc(set, HostPasid{static_cast<std::uint32_t>(1 + random() % 0xf0000)},
                                   HostPasid{iommu::max_ioasid});
        require(id.has_value());
        core.free(set, *id);
    }
}

/// A guest with the maximum number of PASIDs, all bound. Made once, because it takes seconds.
struct FullGuest {
    static constexpr EndpointId endpoint{0x18};

    GuestMemory memory{*GuestMemory::create(32 * MiB, HugePages::none)};
    iommu::IoasidCore core{};
    std::unique_ptr<iommu::PasidService> service{
        *iommu::PasidService::create(core, memory, {.quota = iommu::max_ioasid})};
    Registration stay{*service->add_endpoint(endpoint, {})};

    void fill() {
        for (GuestPasid pasid; service->alloc(pasid) == iommu::PasidStatus::ok;)
            require(service->bind(endpoint, pasid, {.root = 0x100000}) == iommu::PasidStatus::ok);
    }
    static FullGuest& shared() {
        static FullGuest guest;
        guest.fill();
        return guest;
    }
};

void bind_unbind_full(benchmark::State& state) {
    auto& guest = FullGuest::shared();
    std::mt19937 random{4};
    for (auto _ : state) {
        const GuestPasid pasid{static_cast<std::uint32_t>(1 + random() % iommu::max_ioasid)};
        require(guest.service->unbind(FullGuest::endpoint, pasid) == iommu::PasidStatus::ok);
        require(guest.service->bind(FullGuest::endpoint, pasid, {.root = 0x100000}) == iommu::PasidStatus::ok);
    }
}

void free_alloc_full(benchmark::State& state) {
    auto& guest = FullGuest::shared();
    std::mt19937 random{5};
    for (auto _ : state) {
        GuestPasid pasid{static_cast<std::uint32_t>(1 + random() % iommu::max_ioasid)};
        require(guest.service->free(pasid) == iommu::PasidStatus::ok);
        require(guest.service->alloc(pasid, pasid) == iommu::PasidStatus::ok);
        require(guest.service->bind(FullGuest::endpoint, pasid, {.root = 0x100000}) == iommu::PasidStatus::ok);
    }
}

/// Nanoseconds for each PASID when all are reset.
void reset_full(benchmark::State& state) {
    for (auto _ : state) {
        auto& guest = FullGuest::shared();
        const auto started = std::chrono::steady_clock::now();
        guest.service->reset();
        const std::chrono::duration<double> took = std::chrono::steady_clock::now() - started;
        state.SetIterationTime(took.count() / iommu::max_ioasid);
    }
}

/// A guest with one bound PASID that maps `span` bytes from 0.
struct Guest {
    static constexpr std::uint64_t span = 8 * MiB;
    static constexpr EndpointId endpoint{0x18};

    GuestMemory memory{*GuestMemory::create(32 * MiB, HugePages::none)};
    iommu::IoasidCore core{};
    std::unique_ptr<iommu::PasidService> service{*iommu::PasidService::create(core, memory, {})};
    Registration stay{*service->add_endpoint(endpoint, {})};
    GuestPasid pasid{};

    Guest() {
        tests::PageTables tables{memory, 0x100000};
        for (std::uint64_t at = 0; at < span; at += page_size)
            tables.map(at, 0x1000000 + at);
        require(service->alloc(pasid) == iommu::PasidStatus::ok);
        require(service->bind(endpoint, pasid, {.root = tables.root()}) == iommu::PasidStatus::ok);
    }
    [[nodiscard]] std::shared_ptr<const DmaMemory> view() const {
        return service->memory(endpoint, service->submit(pasid)->host());
    }
};

/// Passes the gate, looks up, takes and drops the device's reference.
void submit(benchmark::State& state) {
    Guest guest;
    for (auto _ : state) {
        const auto submission = guest.service->submit(guest.pasid);
        require(guest.service->acquire(submission->host()).has_value());
        guest.service->release(submission->host());
    }
}

void dma_translate(benchmark::State& state) {
    Guest guest;
    const auto view = guest.view();
    const auto size = static_cast<std::uint64_t>(state.range(0));
    std::vector<iovec> pieces;
    std::uint64_t at = 0;
    for (auto _ : state) {
        const auto hold = view->hold();
        pieces.clear();
        require(tests::translate(*view, *Range<Iova>::sized(Iova{at}, size), Access::write, pieces));
        at = (at + 4 * page_size) % (Guest::span - size);
    }
}

void decode(benchmark::State& state) {
    // enqcmd rax, [gs:rbp + r12*8 + disp32], and what follows it
    constexpr std::uint8_t bytes[15] = {0x65, 0xf2, 0x42, 0x0f, 0x38, 0xf8, 0x84, 0xe5, 1, 2, 3, 4, 0x90, 0x90, 0x90};
    require(iommu::decode_enqueue(bytes, iommu::CodeSize::bits64).has_value());
    for (auto _ : state) {
        const auto* where = bytes;
        benchmark::DoNotOptimize(where);
        benchmark::DoNotOptimize(iommu::decode_enqueue({where, sizeof bytes}, iommu::CodeSize::bits64));
    }
}

} // namespace

BENCHMARK(translate)->Name("translate")->Arg(0);
BENCHMARK(translate)->Name("translate_while_updating")->Arg(1);
BENCHMARK(translate_scattered)->Name("translate_scattered");
BENCHMARK(alloc_free)->Name("alloc_free_1000_live")->Arg(1000);
BENCHMARK(alloc_free)->Name("alloc_free_1000000_live")->Arg(1000000);
BENCHMARK(bind_unbind_full)->Name("bind_unbind_1048575_bound");
BENCHMARK(free_alloc_full)->Name("free_alloc_bind_1048575_bound");
BENCHMARK(reset_full)->Name("reset_1048575_bound_each")->UseManualTime()->Iterations(1);
BENCHMARK(submit)->Name("submit");
BENCHMARK(decode)->Name("decode");
BENCHMARK(dma_translate)->Name("dma_64_bytes")->Arg(64);
BENCHMARK(dma_translate)->Name("dma_1_mib")->Arg(1 << 20);
BENCHMARK_MAIN();
