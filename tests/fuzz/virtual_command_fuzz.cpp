// SPDX-License-Identifier: Apache-2.0
// The virtual command interface, by registers and by virtio-iommu requests, with submissions and DMA in between: the
// guest's page tables are the input's too. Whatever comes, nothing outside the guest's set changes, every reference is
// accounted for, and a reset leaves nothing.
#include <algorithm>

#include "devices/pasid_registers.hpp"
#include "iommu/pasid/page_walk.hpp"
#include "iommu/pasid/pasid_requests.hpp"
#include "tests/fakes/pasid_guest.hpp"
#include "tests/fuzz/input.hpp"
#include "tests/support/translate.hpp"
#include "vmm/base/log.hpp"

using namespace inox;

namespace {

using fuzz::Input;
using fuzz::require;

/// One target for all inputs. Another guest has a set as well.
struct Target {
    fakes::PasidGuest guest{8};
    iommu::IoasidSetRef stranger = *guest.core.set_alloc({}, 4);
    iommu::HostPasid foreign = *guest.core.alloc(stranger, iommu::HostPasid{0x8001}, iommu::HostPasid{0x8001});
    devices::PasidRegisters registers{*guest.service};
    iommu::PasidRequests requests{*guest.service};
    std::vector<iommu::HostPasid> held{};

    void submit(iommu::GuestPasid pasid) {
        const auto submission = guest.service->submit(pasid);
        if (!submission)
            return;
        require(submission->host() != foreign);
        if (held.size() < 64 && guest.service->acquire(submission->host()))
            held.push_back(submission->host());
    }
    void access(iommu::HostPasid host, std::uint64_t address, std::uint64_t size, bool write, bool privileged) {
        const auto memory = guest.service->memory(fakes::PasidGuest::endpoint, host, privileged);
        std::vector<iovec> pieces;
        const auto range = Range<Iova>::sized(Iova{address}, size);
        if (!memory || !range)
            return;
        const auto hold = memory->hold();
        if (!tests::translate(*memory, *range, write ? Access::write : Access::read, pieces)) {
            require(pieces.empty());
            return;
        }
        std::uint64_t sum = 0;
        const auto ram = guest.memory.regions().front().host;
        for (const auto& piece : pieces) {
            const auto* start = static_cast<const std::byte*>(piece.iov_base);
            require(start >= ram.data() && start + piece.iov_len <= ram.data() + ram.size());
            sum += piece.iov_len;
        }
        require(sum == size);
    }
    /// Tables of the guest's own, in any mode: an address leads somewhere, or the fault says why not.
    void walk(Input& input) {
        const auto how = input.take<std::uint16_t>();
        iommu::Paging paging;
        paging.root = input.number(3) << (how >> 14);
        paging.mode = std::array{iommu::PagingMode::long_mode, iommu::PagingMode::pae, iommu::PagingMode::bits32,
                                 iommu::PagingMode::long_mode}[how & 3];
        paging.five_levels = (how & 4) != 0;
        paging.write_protect = (how & 8) == 0;
        paging.execute_disable = (how & 16) == 0;
        paging.smep = paging.smap = (how & 32) != 0;
        paging.one_gib_pages = (how & 64) == 0;
        paging.four_mib_pages = (how & 64) == 0;
        paging.physical_bits = (how & 128) != 0 ? 36 : 52;
        if ((how & 256) != 0)
            paging.pkru = input.take<std::uint32_t>();
        const auto linear = input.number(8);
        const iommu::PageAccess access{(how & 512) != 0, (how & 1024) != 0, (how & 2048) != 0};
        if (const auto found = iommu::walk_pages(guest.memory, paging, linear, access))
            require(found->page_bits >= 12 && found->page_bits <= 30 && (!access.write || found->dirty));
    }
    void request(Input& input) {
        const auto type = static_cast<std::uint8_t>(0x80 + input.number(1) % 5);
        auto bytes = std::vector<std::byte>(input.number(1) % 40);
        const auto body = input.take(bytes.size());
        std::ranges::copy(body, bytes.begin());
        std::array<std::byte, 4> answer{};
        (void)requests.execute(type, bytes, std::span{answer}.first(*requests.answer_size(type)));
    }
    void step(Input& input) {
        const auto kind = input.number(1);
        switch (kind % 8) {
        case 0: // any register access
            if (std::array<std::byte, 8> data{}; (kind & 8) != 0) {
                registers.read(input.number(2) % 4096, std::span{data}.first(1 + kind / 16 % 8));
            } else {
                const auto offset = input.number(2) % 4096;
                store_le(data, input.number(8));
                registers.write(offset, std::span{data}.first(1 + kind / 16 % 8));
            }
            break;
        case 1: // a well-formed command
        case 2: {
            constexpr std::array<std::uint64_t, 6> commands{1, 2, 0xc0, 0xc1, 0xc2, 1};
            const std::uint64_t endpoint = kind & 64 ? input.number(2) : fakes::PasidGuest::endpoint.raw();
            const std::uint64_t command =
                commands[kind / 8 % 6] | input.number(1) % 10 << 16 | endpoint << 36 | (input.number(1) & 15) << 52;
            std::array<std::byte, 8> data{};
            store_le(data, kind & 128 ? input.number(8) : input.number(2) << 12);
            registers.write(devices::PasidRegisters::operand, data);
            store_le(data, command);
            registers.write(devices::PasidRegisters::command, data);
            registers.read(devices::PasidRegisters::response, data);
            require((load_le(data) & 1) == 0);
            break;
        }
        case 3:
            request(input);
            break;
        case 4:
            submit(iommu::GuestPasid{static_cast<std::uint32_t>(kind & 8 ? input.number(4) : input.number(1) % 10)});
            break;
        case 5: // an entry of a page table, or anything else in the guest's memory
            if ((kind & 0xc0) == 0xc0)
                return walk(input);
            (void)guest.memory.write(Gpa{input.number(3) & ~7ULL}, input.number(8));
            break;
        case 6:
            if (!held.empty())
                access(held[input.number(1) % held.size()], input.number(8), input.number(3), kind & 8, kind & 16);
            break;
        default:
            if (!held.empty()) {
                guest.service->release(held.back());
                held.pop_back();
            }
        }
    }
    void check() {
        const auto info = guest.core.info(foreign);
        require(info && info->total() == 1 && !info->free_pending && info->binds == 0);
        const auto snapshot = guest.service->snapshot();
        require(snapshot.set.used <= 8 && snapshot.set.used == snapshot.pasids.size() && snapshot.in_flight == 0);
        std::size_t entries = 0;
        for (const auto& pasid : snapshot.pasids) {
            const auto devices = static_cast<std::size_t>(std::ranges::count(held, pasid.id.id));
            const bool bound = !pasid.bindings.empty();
            require(pasid.in_table == bound && (!bound || !pasid.id.free_pending));
            require(pasid.id.total() == devices + (pasid.id.free_pending ? 0U : 1U) + (bound ? 2U : 0U));
            entries += pasid.in_table;
        }
        require(guest.service->table().size() == entries);
    }
    void reset() {
        requests.reset();
        guest.service->reset();
        for (const auto host : held)
            guest.service->release(host);
        held.clear();
        require(guest.clean() && guest.core.refused_puts() == 0);
        guest.faults.clear();
    }
};

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    log::set_level(log::Level::off);
    static Target target;
    Input input{std::as_bytes(std::span{data, size})};
    for (int step = 0; step < 100 && !input.empty(); ++step) {
        target.step(input);
        if (step % 16 == 15)
            target.check();
    }
    target.check();
    target.reset();
    return 0;
}
