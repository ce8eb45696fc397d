// SPDX-License-Identifier: Apache-2.0
#include "devices/pci/bar_mapper.hpp"

#include <algorithm>
#include <utility>
#include <vector>

#include "vmm/base/hex.hpp"

namespace inox::devices::pci {
namespace {

/// What a bus holds for a BAR. Keeps the function alive while an access is under way.
class BarWindow final : public BusDevice {
public:
    BarWindow(std::shared_ptr<Function> function, Address address, unsigned bar)
        : function_{std::move(function)}, bar_{bar}, name_{format("%s BAR %u", address.text().c_str(), bar)} {}

    [[nodiscard]] std::string_view name() const override { return name_; }
    void read(std::uint64_t offset, std::span<std::byte> data) noexcept override {
        function_->bar_read(bar_, offset, data);
    }
    void write(std::uint64_t offset, std::span<const std::byte> data) noexcept override {
        function_->bar_write(bar_, offset, data);
    }
    void write_wide(std::uint64_t offset, WideBytes data) noexcept override {
        function_->bar_write_wide(bar_, offset, data);
    }
    bool enqueue(std::uint64_t offset, WideBytes command) noexcept override {
        return function_->bar_enqueue(bar_, offset, command);
    }
    void state(State& /*state*/) override {} // is the function's

private:
    std::shared_ptr<Function> function_;
    unsigned bar_;
    std::string name_;
};

template <class A> bool holds(Range<A> window, Attached::Span span) {
    const auto range = Range<A>::sized(A{span.start}, span.size);
    return range && window.contains(*range);
}

/// The first gap that is large enough.
template <class A> std::optional<Attached::Span> gap(Range<A> window, std::uint64_t size, std::uint64_t alignment,
                                                     std::span<const Attached::Span> taken) {
    Attached::Span candidate{align_up(window.start().raw(), alignment), size};
    while (holds(window, candidate)) {
        const auto in_the_way = std::ranges::find_if(taken, [&](Attached::Span other) {
            return candidate.start < other.start + other.size && other.start < candidate.start + candidate.size;
        });
        if (in_the_way == taken.end())
            return candidate;
        candidate.start = align_up(in_the_way->start + in_the_way->size, alignment);
    }
    return std::nullopt;
}

/// An address that only means "not assigned" or asks for the BAR's size.
bool is_placeholder(const Bar& bar, std::uint64_t address) {
    const auto mask = static_cast<std::uint32_t>(~(bar.size - 1));
    return address == 0 || static_cast<std::uint32_t>(address) == mask;
}

} // namespace

Result<void> BarMapper::place(Function& function, std::span<const std::unique_ptr<Attached>> others) const {
    auto& config = function.config();
    std::vector<Span> memory;
    std::vector<Span> io;
    const auto take = [&](const Bar& bar, Span span) { (bar.kind == BarKind::io ? io : memory).push_back(span); };
    for (const auto& other : others)
        for (unsigned index = 0; other && index < bar_count; ++index) {
            const auto& bar = other->function->config().bar(index);
            if (!bar)
                continue;
            // A BAR outside all windows is not mapped, so its address must not count as taken.
            const Span span{other->function->config().bar_address(index), bar->size};
            if (in_window(*bar, span))
                take(*bar, span);
        }

    std::vector<unsigned> order;
    for (unsigned index = 0; index < bar_count; ++index)
        if (config.bar(index))
            order.push_back(index);
    std::ranges::stable_sort(order, std::greater{}, [&](unsigned index) { return config.bar(index)->size; });
    for (const auto index : order) {
        const Bar& bar = *config.bar(index);
        const auto span = find_gap(bar, bar.kind == BarKind::io ? io : memory);
        if (!span)
            return fail(Errc::no_resource,
                        format("no address space left for BAR %u of %s (%llu bytes)", index,
                               std::string{function.name()}.c_str(), static_cast<unsigned long long>(bar.size)));
        config.set_bar_address(index, span->start);
        take(bar, *span);
    }
    return {};
}

/// Memory BARs get pages of their own, so that one can be mapped into the guest without its neighbour.
std::optional<BarMapper::Span> BarMapper::find_gap(const Bar& bar, std::span<const Span> taken) const {
    if (bar.kind == BarKind::io)
        return gap(windows_.io, bar.size, bar.size, taken);
    const auto size = std::max(bar.size, page_size);
    std::optional<Span> found;
    if (bar.kind == BarKind::memory64 && windows_.memory64)
        found = gap(*windows_.memory64, size, size, taken);
    return found ? found : gap(windows_.memory32, size, size, taken);
}

bool BarMapper::sync(Attached& attached) noexcept {
    const auto& config = attached.function->config();
    std::array<std::optional<Span>, bar_count> wanted;
    for (unsigned index = 0; index < bar_count; ++index)
        if (config.bar(index) && config.bar_decoded(index))
            wanted[index] = Span{config.bar_address(index), config.bar(index)->size};

    bool freed = false;
    for (unsigned index = 0; index < bar_count; ++index) {
        if (attached.refused[index] != wanted[index])
            attached.refused[index].reset();
        if (attached.mapped[index] && attached.mapped[index] != wanted[index]) {
            unmap(attached, index);
            freed = true;
        }
    }
    for (unsigned index = 0; index < bar_count; ++index)
        if (wanted[index] && !attached.mapped[index] && !attached.refused[index])
            map(attached, index, *wanted[index]);
    return freed;
}

void BarMapper::retry(Attached& attached) noexcept {
    for (unsigned index = 0; index < bar_count; ++index)
        if (const auto span = attached.refused[index];
            span && in_window(*attached.function->config().bar(index), *span))
            map(attached, index, *span);
}

void BarMapper::unmap_all(Attached& attached) noexcept {
    for (unsigned index = 0; index < bar_count; ++index) {
        attached.refused[index].reset();
        if (attached.mapped[index])
            unmap(attached, index);
    }
}

bool BarMapper::in_window(const Bar& bar, Span span) const {
    if (bar.kind == BarKind::io)
        return holds(windows_.io, span);
    return holds(windows_.memory32, span) || (windows_.memory64 && holds(*windows_.memory64, span));
}

void BarMapper::map(Attached& attached, unsigned index, Span span) noexcept {
    const Bar& bar = *attached.function->config().bar(index);
    if (!in_window(bar, span)) {
        refuse(attached, index, span, is_placeholder(bar, span.start) ? nullptr : "outside the host bridge's windows");
        return;
    }
    auto window = std::make_shared<BarWindow>(attached.function, attached.address, index);
    const auto added = bar.kind == BarKind::io
                           ? ports_.add(*Range<IoPort>::sized(IoPort{span.start}, span.size), std::move(window))
                           : memory_.add(*Range<Gpa>::sized(Gpa{span.start}, span.size), std::move(window));
    if (!added) {
        refuse(attached, index, span, "already taken");
        return;
    }
    attached.refused[index].reset();
    attached.mapped[index] = span;
    if (bar.kind != BarKind::io)
        attached.function->on_bar_mapped(index, Gpa{span.start});
}

void BarMapper::unmap(Attached& attached, unsigned index) noexcept {
    const Span span = *std::exchange(attached.mapped[index], std::nullopt);
    if (attached.function->config().bar(index)->kind == BarKind::io) {
        ports_.remove(*Range<IoPort>::sized(IoPort{span.start}, span.size));
        return;
    }
    attached.function->on_bar_unmapped(index);
    memory_.remove(*Range<Gpa>::sized(Gpa{span.start}, span.size));
}

/// The BAR is not mapped until the guest moves it, or until what is in its way is unmapped.
void BarMapper::refuse(Attached& attached, unsigned index, Span span, const char* reason) noexcept {
    const bool again = attached.refused[index] == span;
    attached.refused[index] = span;
    if (reason && !again && limiter_.allow())
        log::write(log::Level::warning, "guest placed BAR %u of %s at %#llx, which is %s: not mapped", index,
                   attached.address.text().c_str(), hex(span.start), reason);
}

} // namespace inox::devices::pci
