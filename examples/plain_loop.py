"""pullpush's parts in a plain PyTorch loop: the built-in emoji data, tested on classes that were never trained on."""

import sys

import torch
from torch.utils.data import DataLoader

import pullpush

steps = int(sys.argv[1]) if len(sys.argv) > 1 else 100
items = pullpush.split_by_class(pullpush.open_items("emoji"), seed=0)
encoder = pullpush.ImageEncoder("tf_efficientnet_lite0", dim=128, size=64)
train, test = (pullpush.ImageDataset(items.split(name), encoder.preprocessing.transform) for name in ("train", "test"))
sampler = pullpush.ClassBalancedSampler(train.labels, classes=32, samples=4, seed=0, passes=None)
memory = pullpush.CrossBatchMemory(2048, dim=128)
criterion = pullpush.Criterion("multi_similarity", miner="multi_similarity", memory=memory)
optimizer = torch.optim.AdamW(encoder.parameter_groups(lr=1e-3))

for step, (images, labels, ids) in zip(range(steps), DataLoader(train, batch_sampler=sampler), strict=False):
    loss = criterion(encoder(images), labels, ids)
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    print(f"step {step + 1}: loss {loss.item():.4f}")

result = pullpush.evaluate(*pullpush.embed(encoder, test))
print(f"recall@1 on {len(result.per_class)} unseen classes: {result.metrics['recall@1']:.3f}")
