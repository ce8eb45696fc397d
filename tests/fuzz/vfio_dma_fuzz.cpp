// SPDX-License-Identifier: Apache-2.0
// Maps and unmaps on an address space over the made-up kernel, of either kind: three bytes an operation, the first byte
// of all chooses the kernel. At every step what inox believes is what the kernel has, and every use of memory is
// counted.

#include "devices/vfio/device.hpp"
#include "devices/vfio/dma/address_space.hpp"
#include "devices/vfio/session.hpp"
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
    explicit Machine(Backend backend)
        : session_{{}, kernel_, kernel_.tree.root(), LockLimit{std::nullopt}},
          memory_{
              inox::Mapping::create(16 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0).value()} {
        kernel_.rules.ranges = {{0, 0xfedfffff}, {0xfef00000, ~std::uint64_t{0}}};
        kernel_.rules.entry_limit = 6;
        kernel_.add(address, 7, "vfio0");
        require(session_.memory().add(memory_.bytes(), "memory").has_value());
        auto device = Device::open(session_, {"dev", address, backend, {}, {}});
        require(device.has_value());
        device_ = std::move(*device);
    }

    void begin(bool wrong_at_the_end, std::uint64_t locked_limit) {
        require(device_->dma().unmap(IovaRange::full()).has_value());
        require(kernel_.mappings(address)->empty() && kernel_.rules.locked == 0);
        kernel_.rules.wrong_at_the_end = wrong_at_the_end;
        kernel_.rules.locked_limit = locked_limit;
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
        if (what % 8 == 7) {
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

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    static Machine container{Backend::container};
    static Machine iommufd{Backend::iommufd};
    if (size == 0)
        return 0;
    auto& machine = (data[0] & 1) == 0 ? container : iommufd;
    machine.begin((data[0] & 2) != 0, (data[0] & 4) != 0 ? 20 * page : 1000 * page);
    for (std::size_t i = 1; i + 3 <= size && i < 200; i += 3)
        machine.step(data[i], data[i + 1], data[i + 2]);
    return 0;
}
