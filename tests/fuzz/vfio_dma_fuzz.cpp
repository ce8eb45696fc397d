// SPDX-License-Identifier: Apache-2.0
// Maps and unmaps on an address space over the made-up kernel, of either kind: three bytes an operation, the first byte
// of all chooses the kernel and its manners, the second how it fails. At every step what inox believes is what the
// kernel has, and every use of memory is counted. The host's list of ranges is an input as well.

#include <array>
#include <cerrno>

#include "devices/vfio/device.hpp"
#include "devices/vfio/dma/address_space.hpp"
#include "devices/vfio/dma/window.hpp"
#include "devices/vfio/session.hpp"
#include "devices/vfio/sysfs.hpp"
#include "tests/fakes/vfio_kernel.hpp"
#include "tests/fuzz/input.hpp"

using namespace inox;

namespace {

using namespace devices::vfio;
using fuzz::require;

constexpr std::uint64_t page = 4096;
constexpr std::uint64_t middle = std::uint64_t{1} << 63;
constexpr const char* address = "0000:01:00.0";

class Machine {
public:
    explicit Machine(Backend backend, bool old = false)
        : session_{{}, kernel_, kernel_.tree.root(), LockLimit{std::nullopt}},
          memory_{
              inox::Mapping::create(16 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0).value()} {
        kernel_.rules.ranges = {{0, 0xfedfffff}, {0xfef00000, ~std::uint64_t{0}}};
        kernel_.rules.entry_limit = 6;
        kernel_.rules.range_list = kernel_.rules.unmap_all = !old;
        kernel_.add(address, 7, "vfio0");
        kernel_.tree.file("sys/kernel/iommu_groups/7/reserved_regions",
                          "0xfee00000 0xfeefffff msi\n0x2000 0x2fff direct-relaxable\n0x4000 0x4fff reserved\n");
        require(session_.memory().add(memory_.bytes(), "memory").has_value());
        auto device = Device::open(session_, {"dev", address, backend, {}, {}});
        require(device.has_value());
        device_ = std::move(*device);
    }

    /// `fails`: an error of the kernel's in its low half, and of which call that maps in the high half.
    void begin(bool wrong_at_the_end, std::uint64_t locked_limit, std::uint8_t fails) {
        constexpr std::array errors{0, EEXIST, ENOSPC, ENOMEM, EINVAL, EIO, EPERM, EFAULT};
        kernel_.rules.fail_next_maps = 0;
        require(device_->dma().unmap(IovaRange::full()).has_value());
        require(kernel_.mappings(address)->empty() && kernel_.rules.locked == 0);
        kernel_.rules.wrong_at_the_end = wrong_at_the_end;
        kernel_.rules.locked_limit = locked_limit;
        kernel_.rules.fail_next_maps = errors[fails % errors.size()];
        kernel_.rules.fail_after = fails / 16;
        kernel_.calls.clear();
    }

    /// Places near the start, the MSI window, the middle and the end of the space.
    static std::uint64_t place(std::uint8_t byte) {
        static constexpr std::uint64_t bases[] = {0, 0xfee00000 - 8 * page, middle - 8 * page, 0 - 16 * page};
        return bases[byte >> 6] + (byte & 0xf) * page;
    }

    void step(std::uint8_t what, std::uint8_t where, std::uint8_t how_long) {
        auto& dma = device_->dma();
        const auto count = std::uint64_t{how_long} % 16 + 1;
        const auto range = IovaRange::sized(Iova{place(where)}, count * page);
        if (range && what % 8 == 5) { // not whole pages, or not as many as there are
            const auto odd = IovaRange::sized(range->start() + (how_long & 0x10 ? 8 : 0), range->size());
            const auto bytes = memory_.bytes().first(count * page - (how_long & 0x20 ? 8 : 0));
            if (odd && (how_long & 0x30) != 0)
                require(!dma.map(*odd, bytes, Access::read));
        } else if (range && what % 8 == 3) { // in two steps, and taken back
            const auto bytes = memory_.bytes().first(count * page);
            if (dma.reserve(*range, bytes)) {
                if (dma.pin(*range, bytes, Access::read_write))
                    require(dma.unpin(*range).has_value());
                dma.cancel(*range);
            }
        } else if (what % 8 == 7) {
            require(dma.unmap(IovaRange::full()).has_value());
            require(dma.mapping_count() == 0);
        } else if (range && what % 2 == 0) {
            static_cast<void>(dma.map(*range, memory_.bytes().first(count * page), Access::read_write));
        } else if (range) {
            static_cast<void>(dma.unmap(*range));
        }
        check();
    }

private:
    bool taken(std::uint64_t iova) {
        const auto again =
            device_->dma().map(*IovaRange::sized(Iova{iova}, page), memory_.bytes().first(page), Access::read_write);
        return !again && again.error().code == Errc::already_exists;
    }

    void check() {
        const auto& mappings = *kernel_.mappings(address);
        require(mappings.size() == device_->dma().mapping_count());
        std::uint64_t bytes = 0;
        for (const auto& [iova, one] : mappings) {
            bytes += one.size;
            // The address space knows of its first page and of its last
            require(taken(iova) && taken(iova + one.size - page));
        }
        require(session_.memory().uses(memory_.bytes()) == mappings.size());
        require(session_.memory().pinned() == bytes && kernel_.rules.locked == bytes);
    }

    fakes::VfioKernel kernel_{};
    Session session_;
    inox::Mapping memory_;
    std::unique_ptr<Device> device_{};
};

/// What the kernel allows and what sysfs says about it, each in 9 bytes.
void list_ranges(fuzz::Input input) {
    std::vector<IovaRange> usable;
    std::vector<ReservedLine> lines;
    while (!input.empty() && lines.size() < 16) {
        const auto how = input.take<std::uint8_t>();
        const auto first = std::uint64_t{input.take<std::uint32_t>()} << (how >> 2);
        const auto last = std::uint64_t{input.take<std::uint32_t>()} << (how >> 2);
        const auto range = IovaRange::closed(Iova{first}, Iova{last});
        if (range && (how & 1) != 0)
            usable.push_back(*range);
        else if (range)
            lines.push_back({*range, iommu::ReservedKind::reserved, (how & 2) != 0});
    }
    const auto window = make_window(usable, lines, page);
    for (std::size_t i = 1; i < window.apertures.size(); ++i)
        require(window.apertures[i - 1].last() < window.apertures[i].start());
    for (const auto& region : window.reserved)
        for (const auto& aperture : window.apertures)
            require(!aperture.overlaps(region.range));
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    static Machine container{Backend::container};
    static Machine iommufd{Backend::iommufd};
    static Machine old{Backend::container, true};
    if (size < 2)
        return 0;
    if ((data[0] & 16) != 0) {
        list_ranges(fuzz::Input{std::as_bytes(std::span{data, size}.subspan(1))});
        return 0;
    }
    auto& machine = (data[0] & 8) != 0 ? old : (data[0] & 1) == 0 ? container : iommufd;
    machine.begin((data[0] & 2) != 0, (data[0] & 4) != 0 ? 20 * page : 1000 * page, data[1]);
    for (std::size_t i = 2; i + 3 <= size && i < 200; i += 3)
        machine.step(data[i], data[i + 1], data[i + 2]);
    return 0;
}
