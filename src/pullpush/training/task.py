"""What is trained: one tower by class, or two into one space."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from pullpush.criterion import Criterion
from pullpush.data.items import Items
from pullpush.data.sampler import ClassBalancedSampler, seen_per_class
from pullpush.encoders import View, Views, bundle
from pullpush.encoders.compression import Compression
from pullpush.encoders.decision import Decision
from pullpush.encoders.rerank import Rerank
from pullpush.encoders.towers import keep_space
from pullpush.errors import UserError
from pullpush.evaluation import CrossModal, Evaluation, evaluate_image_text, evaluate_items
from pullpush.evaluation.protocols import protocol_for
from pullpush.runs.config import Config
from pullpush.runs.folder import save_tables
from pullpush.runs.log import go_on
from pullpush.training.costs import costs_of
from pullpush.training.criteria import make_criteria
from pullpush.training.learned_state import hold_what_learns
from pullpush.training.ranks import Asked, Ranks
from pullpush.training.reranking import named_rerank
from pullpush.training.step import OTHER_IDS, Step, compare
from pullpush.training.towers import CPU, SPLITS, TOWERS, Batch, ImageTower, TextTower, Tower
from pullpush.training.views import said_views
from pullpush.transfer import moved

__all__ = ["Task"]


class Task:
    """The towers of a run, the sampler of their batches, and the criterion: what a run trains.

    With one tower a label is a class. With two, an item of the first is compared with an entry of the second, both
    ways; a label then is what belongs together (class or item) and what the entry says, so that equal texts are told.

    Args:
        config: of the run; `task` names the towers.
        items: with their splits.
        rank: which process this is.
        world: of how many.
        device: where it is trained.
        local_rank: which process this is on its machine.

    Attributes:
        step: the module that learns.
        views: in which the model sees images.
        towers: one or two.
        encoder: of the items.
        criterion: the loss.
        sampler: of the training batches.
        splits: the items of each split.
        costs: what learns, and the memory that this takes.
        notes: what a person should know before the first step.
        ranks: of several processes, those that embed together, while they do.

    Raises:
        UserError: data without what a tower needs, a loss with class proxies for two towers.
    """

    def __init__(
        self,
        config: Config,
        items: Items,
        rank: int = 0,
        world: int = 1,
        device: torch.device = CPU,
        local_rank: int = 0,
    ) -> None:
        kinds = [TOWERS.get(name, Tower) for name in config.task.split("-")]
        self.notes: list[str] = []
        for kind in kinds:
            items, remarks = kind.usable(config, items)
            self.notes += remarks
        if len(kinds) > 1 and config.loss.traits.proxies:  # before the towers compute features for an hour
            raise UserError(
                f"loss {config.loss.name!r} compares with class proxies, not with texts: give --loss n_pair, nt_xent, "
                "siglip, triplet, circle or any other without proxies"
            )
        self.config, self.items = config, items
        self.ranks: Ranks | None = None
        self.towers = [kind(config, items, rank, device, local_rank) for kind in kinds]
        self.first, last = self.towers[0], self.towers[-1]
        self.other = last if isinstance(last, TextTower) else None
        self.encoder = self.first.encoder
        self._check()
        own = config.encoder.name
        joint = getattr(self.encoder.backbone, "temperature", None) is not None
        self.joint = self.other is not None and config.text.name == own and joint
        if self.joint:
            self.notes.append(f"images and texts go through the two towers of {own!r}, whose space is where they start")
        self.splits = {name: items.split(name) for name in SPLITS}
        self.views = self._said_views()
        named_rerank(config.rerank)  # what is no re-ranking ends before the first step
        train = self.splits["train"]
        self.ids = train.ids
        self.labels: Tensor = torch.unique(train.labels, return_inverse=True)[1]  # 0 ... C - 1, as proxies need them
        self.sampler = self._make_sampler(rank, world)
        classes, others = int(self.labels.max()) + 1, None if self.other is None else self.ids + OTHER_IDS
        self.criterion, self.all_pairs = make_criteria(config, classes, self.ids, others)
        self.costs = costs_of([*(tower.encoder for tower in self.towers), self.criterion])
        self.notes += [*(note for tower in self.towers for note in tower.notes), *self.sampler.notes, str(self.costs)]
        encoders = {tower.name: tower.encode for tower in self.towers}
        self.step = Step(encoders, self.criterion, config.compile_encoder)
        if any(tower.encoder.lora for tower in self.towers):
            hold_what_learns(self.step)

    def _check(self) -> None:
        """Raises `UserError` where nothing learns, or prefixes are as long as embeddings."""
        config = self.config
        learns = any(each.requires_grad for tower in self.towers for each in tower.encode.parameters())
        if isinstance(self.first, ImageTower) and not learns:
            name = config.encoder.name
            raise UserError(
                "nothing would learn: the backbone is frozen and --encoder.head is none; give a head, another --tune, "
                f"or see what the model finds as it is: pullpush evaluate {name if ':' in name else f'timm:{name}'}"
            )
        if config.matryoshka and max(config.matryoshka) >= self.encoder.dim:
            raise UserError(
                f"--matryoshka {','.join(map(str, config.matryoshka))}: prefixes are shorter than the embeddings, "
                f"which have {self.encoder.dim} dimensions; give fewer, or a larger --encoder.dim"
            )

    def _make_sampler(self, rank: int, world: int) -> ClassBalancedSampler:
        """With `text.duplicates` apart, items that read the same are never in one batch."""
        config, apart = self.config, None
        if self.other is not None and config.text.duplicates == "apart":
            apart = [frozenset(self.other.keys[own].tolist()) for own in self.other.own]
        return ClassBalancedSampler.for_data(
            self.labels,
            config.usual_batch,
            **vars(config.batch),
            seed=config.seed,
            rank=rank,
            world=world,
            keys=apart,
        )

    def start(self) -> None:
        """Sets the heads to where they start; a run that goes on has weights of its own."""
        if self.joint and self.config.encoder.init == "pca":
            heads = [tower.encoder.head for tower in self.towers if isinstance(tower.encoder.head, nn.Linear)]
            short = any(head.out_features < head.in_features for head in heads)
            keep_space(heads, [tower.drawn_features() for tower in self.towers] if short else [])
            return
        for tower in self.towers:
            tower.start()

    @cached_property
    def shown(self) -> tuple[str, ...]:
        """The metrics that are printed at the end."""
        if self.other is not None:
            return "text_to_image/recall@1", "text_to_image/recall@10", "image_to_text/recall@1"
        if protocol_for(self.items).draws:  # VehicleID: a figure without its way says little
            return "all_against_all/recall@1", "one_gallery_image/recall@1"
        return "recall@1", "map@r"

    @cached_property
    def followed(self) -> tuple[str, ...]:
        """Those that are printed at each validation; log.jsonl has all."""
        if self.other is not None:
            return "text_to_image/recall@1", "image_to_text/recall@1", "loss_miner"
        plain = ("recall@1", "recall@10", "map@r", "loss_miner", "loss_all")
        return self.shown if protocol_for(self.items).draws else plain

    @property
    def encoders(self) -> list[nn.Module]:
        """The parts of `step` that make embeddings."""
        return self.step.encoders

    @property
    def chosen_by(self) -> str:
        """The metric of the best checkpoint. map@r looks at all positives, recall@1 at the nearest only; of two towers
        recall@1, as recall@10 is at its height long before."""
        return "map@r" if self.other is None else "text_to_image/recall@1"

    def parameter_groups(self) -> list[dict[str, Any]]:
        """For the optimiser; each group holds its own highest learning rate as `lr` and `initial_lr`."""
        o = self.config.optimizer
        groups = [
            {**group, "name": f"{tower.name}/{group['name']}" if self.other else group["name"]}
            for tower in self.towers
            for group in tower.encoder.parameter_groups(
                o.lr, backbone_scale=tower.backbone_scale, weight_decay=o.weight_decay, layer_decay=o.layer_decay
            )
        ]
        if learned := list(self.criterion.parameters()):
            groups.append({"name": "criterion", "params": learned, "lr": o.lr * o.criterion_scale, "weight_decay": 0.0})
        return [{**group, "initial_lr": group["lr"]} for group in groups]

    def batches(self, done: int) -> Iterator[list[Batch]]:
        """Batches for the steps after `done`, the same ones whether the run was resumed there or not."""
        self.sampler.seek(done)
        for step, batch in enumerate(self.first.loader(self.sampler), done):
            yield [batch] if self.other is None else [batch, self.other.batch(batch.rows, step)]

    def prepare(self, batch: Sequence[Batch], device: torch.device) -> tuple[list[Any], Tensor, Tensor]:
        """What `step` takes. Fills the memory where that is to be done."""
        self._fill_memory(device)
        inputs = [tower.given(each, device) for tower, each in zip(self.towers, batch, strict=True)]
        rows = batch[0].rows
        return inputs, moved(self._labels(rows, batch[-1].entries), device), moved(self.ids[rows], device)

    def _fill_memory(self, device: torch.device) -> None:
        """With `memory.fill`, once, before the first step that reads the memory: embeddings of a seeded draw of
        training items by the model as it is in use."""
        if not self.config.memory.fill:
            return
        # A memory holds references: of the anchors' own tower, or of the other one, and in reverse.
        memories = [(self.towers[-1], self.criterion.memory), (self.first, self.criterion.reverse_memory)]
        for tower, memory in memories:
            if memory is None or not (memory.warm and memory.empty):
                continue
            drawn = torch.randperm(len(self.ids), generator=torch.Generator().manual_seed(self.config.seed))
            rows = drawn[: memory.size].sort().values
            entries = {each.name: each.draw(rows, 0) for each in self.towers}
            labels = self._labels(rows, entries[self.towers[-1].name])
            ids = self.ids[rows] if tower is self.first else self.ids[rows] + OTHER_IDS
            memory.fill(nn.Identity(), [(tower.embed(entries[tower.name], device), labels, ids)])

    def gradients(
        self, arguments: tuple[list[Any], Tensor, Tensor], chunk: int, backward: Callable[[Tensor], None]
    ) -> Tensor:
        """The loss of `step` and its gradients, `chunk` inputs at a time."""
        return self.step.in_chunks(*arguments, chunk, backward)

    def logged(self, batch: Sequence[Batch]) -> dict[str, float]:
        """What is logged of a batch beside its loss: with two towers, the share of entries that also stand beside an
        item which they do not belong to."""
        if self.other is None:
            return {}
        match, key = self._labels(batch[0].rows, batch[1].entries).T
        twice = (key[:, None] == key[None]) & (match[:, None] != match[None])
        return {"train/duplicates": float(twice.any(1).double().mean())}

    def embed(self, split: str, device: torch.device) -> dict[str, Tensor]:
        """Embeddings of a split by tower, [n, dim], on the CPU."""
        return {tower.name: self._embedded(Asked(place, split), device) for place, tower in enumerate(self.towers)}

    def embed_texts(self, split: str, device: torch.device) -> dict[str, Tensor]:
        """The same without the items: what `evaluate` needs beside `seen`."""
        towers = list(enumerate(self.towers))[1:]
        return {tower.name: self._embedded(Asked(place, split), device) for place, tower in towers}

    def can_see(self, views: Sequence[View]) -> list[View]:
        """Those of the views that the encoder takes; none where it doesn't take images."""
        return [view for view in views if self.first.can_see(view)] if isinstance(self.first, ImageTower) else []

    def embed_views(self, split: str, views: Sequence[View], device: torch.device) -> dict[View, Tensor]:
        """Embeddings of the images of a split in each view, [n, dim], on the CPU."""
        assert isinstance(self.first, ImageTower)
        if self.ranks is None:
            return self.first.embed_views(self.first.entries(split), views, device)
        return dict(zip(views, self.ranks.embed(Asked(0, split, tuple(views))).unbind(1), strict=True))

    def _embedded(self, asked: Asked, device: torch.device) -> Tensor:
        if self.ranks is not None:
            return self.ranks.embed(asked)
        tower = self.towers[asked.tower]
        return tower.embed(tower.entries(asked.split), device, asked.split)

    def count(self, asked: Asked) -> int:
        """How many entries are asked for."""
        return len(self.towers[asked.tower].entries(asked.split))

    def part(self, asked: Asked, places: Tensor, device: torch.device) -> Tensor:
        """What is asked for, of the entries at these places among them; on the CPU."""
        tower = self.towers[asked.tower]
        if not len(places):
            return torch.zeros(0, *[len(asked.views)] * bool(asked.views), tower.encoder.dim)
        entries = tower.entries(asked.split)[places]
        if not asked.views:
            # What is kept of these entries is not kept of the whole split.
            return tower.embed(entries, device, f"{asked.split} from {int(places[0])} of {len(places)}")
        assert isinstance(tower, ImageTower)
        each = tower.embed_views(entries, asked.views, device)
        return torch.stack([each[view] for view in asked.views], 1)

    def evaluate(
        self, split: str, embedded: Mapping[str, Tensor], seen: tuple[Tensor, Tensor] | None = None
    ) -> Evaluation | CrossModal:
        """Retrieval by the protocol of the data; with two towers in both directions over all entries, and among
        the items alone where classes have several.

        `seen`: the items as queries and as gallery, in the place of how they are embedded.
        """
        items = self.splits[split]
        queries, x = seen or (None, embedded[self.first.name])
        if self.other is None:
            return evaluate_items(x, items, queries=queries, nmi=split == "test" and self.config.nmi and not seen)
        belongs = self.other.table(split)["label"].to_numpy()
        both_ways = evaluate_image_text(x, self._match(items), embedded[self.other.name], belongs, queries=queries)
        if len(items.labels.unique()) == len(items):
            return both_ways
        return both_ways.with_images(evaluate_items(x, items, queries=queries, nmi=False))

    def validation_losses(self, embedded: Mapping[str, Tensor], device: torch.device) -> dict[str, float]:
        """The loss on the validation classes: on batches as in training, on these without the miner, and over all
        pairs; empty with class proxies, which stand for training classes only."""
        if self.all_pairs is None:
            return {}
        items = self.splits["validation"]
        x, labels, ids = [embedded[self.first.name].to(device)], items.labels, items.ids.to(device)
        if self.other is not None:
            rows, labels = self._first_entries(self.other, items)
            x.append(embedded[self.other.name][rows].to(device))
        labels = labels.to(device)
        # Batches as in training, of as many classes as there are here.
        classes = min(self.sampler.classes, len(items.labels.unique()))
        batches = list(ClassBalancedSampler(items.labels, classes, self.sampler.samples, seed=self.sampler.seed))
        plain = self.all_pairs.to(device).eval()  # in training the ranks' batches would be joined
        plain.learned.load_state_dict(self.criterion.learned.state_dict())

        def loss(criterion: Criterion, batches: Sequence[slice | list[int]]) -> float:
            losses = [compare(criterion, [each[rows] for each in x], labels[rows], ids[rows]) for rows in batches]
            return sum(map(float, losses)) / len(losses)

        self.criterion.eval()
        with torch.no_grad():
            losses = {
                "loss_miner": loss(self.criterion, batches),
                "loss_no_miner": loss(plain, batches),
                "loss_all": loss(plain, [slice(None)]),
            }
        self.criterion.train()
        return losses

    def queries(self) -> tuple[pd.DataFrame | None, str]:
        """What the test asks with, where that is not its items, and by which column of the items it is answered."""
        if self.other is None:
            return None, "label"
        return self.other.table("test"), self.config.text.relation_column

    def classes_seen(self, steps: int) -> pd.DataFrame:
        """How often the sampler draws items of each class in so many steps: class, items, drawn."""
        train = self.splits["train"]
        labels, sizes, drawn = seen_per_class(self.sampler, train.labels, steps)
        return pd.DataFrame({"class": [train.classes[label] for label in labels], "items": sizes, "drawn": drawn})

    def save_tables(self, folder: Path) -> None:
        """The item table with its splits, and the entries of a second tower in the order of their embeddings."""
        save_tables(folder, self.items, None if self.other is None else self.other.rows)

    def save_model(
        self,
        folder: Path,
        compression: Compression | None = None,
        decision: Decision | None = None,
        rerank: Rerank | None = None,
    ) -> None:
        """The model bundle, which says what made it, and how it is used."""
        about = {"task": self.config.task, "data": self.items.name, "loss": json.dumps(self.config.loss.named())}
        encoders = [tower.encoder for tower in self.towers]
        made: dict[str, Any] = {"extra": about, "views": self.views, "then": go_on(folder.parent)}
        kept: dict[str, Any] = {"compression": compression, "decision": decision, "rerank": rerank}
        bundle.save(str(folder), *encoders, replace=True, **kept, **made)

    def _said_views(self) -> Views:
        """Those of the options, if they name some; else the plain one, until others are chosen."""
        said = said_views(self.config.views)
        if said is None:
            return Views()
        able = set(self.can_see([*said.query, *said.gallery]))
        unable = next((view for view in (*said.query, *said.gallery) if view not in able), None)
        if unable is not None:
            what = self.encoder.title() if isinstance(self.first, ImageTower) else f"task {self.config.task}"
            raise UserError(f"{what} can't take the view {str(unable)!r} (--views): leave it out")
        return said

    def _match(self, items: Items) -> Tensor:
        """By which an item and an entry of the second tower belong together, int64 [n]."""
        return items.labels if self.config.text.relation_column == "label" else items.ids

    def _labels(self, rows: Tensor, entries: Tensor) -> Tensor:
        if self.other is None:
            return self.labels[rows]
        return torch.stack([self._match(self.splits["train"])[rows], self.other.keys[entries]], 1)

    def _first_entries(self, tower: TextTower, items: Items) -> tuple[Tensor, Tensor]:
        """For each validation item the row of its first entry among their embeddings, and the labels [n, 2]."""
        table, match = tower.table("validation"), self._match(items)
        place = {pair: row for row, pair in enumerate(zip(table["label"], table["text"], strict=True))}
        texts = items.table["text"]
        first = torch.tensor([place[int(label), own[0]] for label, own in zip(match, texts, strict=True)])
        return first, torch.stack([match, tower.keys[tower.entries("validation")[first]]], 1)
