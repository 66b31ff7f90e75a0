import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torchvision.datasets import ImageFolder
from torchvision.models import mobilenet_v3_small
from torchvision.transforms.functional import to_tensor


def load(trial, split):
    """Returns the images [N, 3, 16, 16] and the classes [N] of a folder."""
    found = [(to_tensor(image), label) for image, label in ImageFolder(trial.data_dir / "digits" / split)]
    return torch.stack([image for image, _ in found]), torch.tensor([label for _, label in found])


def right(model, images, labels):
    """Returns whether the model is right on each image."""
    model.eval()
    with torch.no_grad():
        found = torch.cat([model(part) for part in images.split(200)]).argmax(dim=1) == labels
    model.train()
    return found


def train(trial):
    train_set, validation, test = (load(trial, split) for split in ("train", "validation", "test"))
    if trial.train_on == "train+validation":
        train_set = [torch.cat(parts) for parts in zip(train_set, validation, strict=True)]
    images, labels = train_set
    model = mobilenet_v3_small(num_classes=10, norm_layer=nn.BatchNorm2d)
    steps = len(images) // trial.batch_size
    optimizer = trial.optimizer(model.parameters(), steps_per_epoch=steps)
    if (state := trial.load()) is not None:
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
    for epoch in range(trial.epoch, trial.epochs):
        for batch in torch.randperm(len(images)).split(trial.batch_size)[:steps]:
            loss = cross_entropy(model(images[batch]), labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        hits = right(model, *test)
        accuracy = [100 * found.float().mean() for found in (right(model, *validation), hits)]
        trial.report(epoch + 1, train_loss=loss, validation=accuracy[0], test=accuracy[1])
        trial.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()})
        if trial.should_stop:
            return
    trial.examples(hits)
